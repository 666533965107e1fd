mod memory;
mod rescue;

use super::*;
use std::future::Future as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

const OPTIONS: Options = Options {
    migrations: &["CREATE TABLE t(k TEXT PRIMARY KEY, v INTEGER) STRICT"],
    cache_kib: 256,
    log_pages: 400,
    readers: 2,
    taken_over: None,
    recovery: Recovery::Refuse,
};

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("a/b.db"), &OPTIONS).unwrap();
    (folder, store)
}

fn put(key: &str, value: i64) -> impl FnOnce(&Transaction<'_>) -> rusqlite::Result<usize> + Send + 'static {
    let key = key.to_owned();
    move |tx| tx.execute("INSERT INTO t VALUES (?1, ?2)", rusqlite::params![key, value])
}

async fn count(store: &Store) -> i64 {
    store.read(|c| c.query_row("SELECT count(*) FROM t", [], |row| row.get(0))).await.unwrap()
}

#[tokio::test]
async fn a_failed_write_undoes_only_itself() {
    let (_folder, store) = store();
    let (a, b, c) =
        tokio::join!(store.write(put("x", 1)), store.write(put("x", 2)), store.write(put("y", 3)));
    assert!(a.is_ok() && c.is_ok());
    assert!(matches!(b, Err(StoreError::Statement(_))));
    assert_eq!(count(&store).await, 2);
}

#[tokio::test]
async fn a_write_that_panics_undoes_only_itself_and_the_writer_goes_on() {
    let (_folder, store) = store();
    let broken = store.write(|tx| {
        tx.execute("INSERT INTO t VALUES ('broken', 1)", [])?;
        panic!("no such {}", "column")
    });
    let (a, broken, c) = tokio::join!(store.write(put("x", 1)), broken, store.write(put("y", 2)));
    assert!(a.is_ok() && c.is_ok());
    let broken: Result<(), _> = broken;
    assert!(matches!(broken, Err(StoreError::Panicked(text)) if text == "no such column"));
    store.write(put("z", 3)).await.unwrap();
    assert_eq!(count(&store).await, 3);
}

#[tokio::test]
async fn a_write_without_a_savepoint_that_fails_undoes_its_group_and_the_writer_goes_on() {
    let (_folder, store) = store();
    store.write(put("x", 1)).await.unwrap();
    let (a, b, c) = tokio::join!(
        store.write(put("y", 1)),
        store.write_checked(put("x", 2), |_| panic!("told of a write that failed")),
        store.write(put("z", 3)),
    );
    assert!(matches!(b, Err(StoreError::Statement(_))), "{b:?}");
    // What came before or after its group is there.
    let kept = i64::from(a.is_ok()) + i64::from(c.is_ok());
    assert_eq!(count(&store).await, 1 + kept);
    assert_eq!(store.write_checked(put("v", 4), |_| {}).await.unwrap(), 1);
    assert_eq!(count(&store).await, 2 + kept);
}

#[tokio::test]
async fn after_commit_hooks_run_in_commit_order_before_the_answer() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let (_folder, store) = store();
    for n in 0..10 {
        let turn = store.write_then(put(&n.to_string(), 0), move |_| {
            assert_eq!(SEEN.fetch_add(1, Ordering::SeqCst), n);
        });
        turn.await.unwrap();
        assert_eq!(SEEN.load(Ordering::SeqCst), n + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_many_groups_are_told_of_in_the_order_of_their_commits() {
    let (_folder, store) = store();
    let seen = std::sync::Arc::new(Mutex::new(Vec::new()));
    let write = |n: usize| {
        let (store, seen) = (store.clone(), seen.clone());
        tokio::spawn(async move {
            // Some alone, most together with others.
            tokio::time::sleep(std::time::Duration::from_millis(n as u64 / 50)).await;
            let place = move |tx: &Transaction<'_>| {
                tx.execute("INSERT INTO t VALUES (?1, 0)", [n.to_string()])?;
                tx.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))
            };
            let told = seen.clone();
            let place =
                store.write_then(place, move |place| told.lock().unwrap().push(*place)).await.unwrap();
            assert!(seen.lock().unwrap().contains(&place));
            assert!(count(&store).await >= place);
        })
    };
    let all: Vec<_> = (0..1000).map(write).collect();
    for one in all {
        one.await.unwrap();
    }
    assert_eq!(*seen.lock().unwrap(), (1..=1000).collect::<Vec<i64>>());
}

#[tokio::test]
async fn what_was_written_is_there_after_reopening_and_the_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let store = Store::open(&path, &OPTIONS).unwrap();
    store.write(put("x", 1)).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(store);
    assert_eq!(count(&Store::open(&path, &OPTIONS).unwrap()).await, 1);
}

#[test]
fn a_database_of_a_newer_program_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    drop(Store::open(&path, &Options { migrations: &["SELECT 1", "SELECT 1"], ..OPTIONS }).unwrap());
    let Err(error) = Store::open(&path, &OPTIONS) else { panic!("opened") };
    assert!(matches!(error, OpenError::FromTheFuture { found: 2, known: 1, .. }), "{error}");
}

#[tokio::test]
async fn rows_are_looked_up_also_while_every_reader_is_lent() {
    let (_folder, store) = store();
    store.write(put("x", 1)).await.unwrap();
    let value = |c: &Connection| c.query_row("SELECT v FROM t WHERE k = 'x'", [], |row| row.get::<_, i64>(0));
    assert_eq!(store.look_up(value).await.unwrap(), 1);
    let barrier = std::sync::Arc::new(std::sync::Barrier::new(OPTIONS.readers + 1));
    let long = || {
        let (store, barrier) = (store.clone(), barrier.clone());
        tokio::spawn(async move {
            let held = store.read(move |_| {
                // Once when all are lent, once when they may end.
                barrier.wait();
                barrier.wait();
                Ok(())
            });
            held.await.unwrap();
        })
    };
    let held: Vec<_> = (0..OPTIONS.readers).map(|_| long()).collect();
    let meet =
        |barrier: std::sync::Arc<std::sync::Barrier>| tokio::task::spawn_blocking(move || barrier.wait());
    meet(barrier.clone()).await.unwrap();
    let mut waiting = Box::pin(store.look_up(value));
    let once = std::future::poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending()));
    assert!(once.await);
    meet(barrier).await.unwrap();
    assert_eq!(waiting.await.unwrap(), 1);
    for reader in held {
        reader.await.unwrap();
    }
}
