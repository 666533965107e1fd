//! Databases in memory keep the promises of those on disk, but durability.

use super::*;

fn store() -> Store {
    Store::in_memory(&OPTIONS).unwrap()
}

#[tokio::test]
async fn what_is_written_in_memory_is_read_by_every_handle() {
    let store = store();
    store.write(put("x", 1)).await.unwrap();
    assert_eq!(count(&store.clone()).await, 1);
}

#[tokio::test]
async fn two_databases_in_memory_share_nothing() {
    let (one, other) = (store(), store());
    one.write(put("x", 1)).await.unwrap();
    assert_eq!(count(&other).await, 0);
}

#[tokio::test]
async fn a_write_that_fails_halfway_leaves_nothing_in_memory() {
    let store = store();
    let failed = store.write(|tx| {
        tx.execute("INSERT INTO t VALUES ('x', 1)", [])?;
        tx.execute("INSERT INTO t VALUES ('x', 2)", [])
    });
    assert!(matches!(failed.await, Err(StoreError::Statement(_))));
    assert_eq!(count(&store).await, 0);
}

#[tokio::test]
async fn a_write_that_panics_leaves_the_database_in_memory_usable_and_unchanged() {
    let store = store();
    let clone = store.clone();
    let task = tokio::spawn(async move {
        let work = |tx: &Transaction<'_>| -> rusqlite::Result<usize> {
            tx.execute("INSERT INTO t VALUES ('x', 1)", [])?;
            panic!("halfway")
        };
        clone.write(work).await
    });
    assert!(task.await.unwrap_err().is_panic());
    store.write(put("y", 1)).await.unwrap();
    assert_eq!(count(&store).await, 1);
}

#[tokio::test]
async fn in_memory_hooks_see_the_result_after_the_commit_and_not_after_a_failure() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let store = store();
    let hook = |rows: &usize| {
        CALLS.fetch_add(*rows, Ordering::SeqCst);
    };
    store.write_then(put("x", 1), hook).await.unwrap();
    assert!(store.write_then(put("x", 2), hook).await.is_err());
    assert_eq!(CALLS.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_in_memory_lose_nothing() {
    let store = store();
    let writers: Vec<_> = (0..100)
        .map(|n: i64| {
            let store = store.clone();
            tokio::spawn(async move { store.write(put(&n.to_string(), n)).await })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    assert_eq!(count(&store).await, 100);
}
