use apimachinery::traits::Traits;
use kubeapi::stored::{Key, Replay};
use serde_json::{Value, json};

use super::*;

async fn storage(folder: &tempfile::TempDir) -> Storage {
    Storage::open(&folder.path().join("test.db"), Followers::default()).unwrap()
}

fn object(uid: &str) -> Value {
    json!({ "metadata": { "name": uid, "uid": uid } })
}

#[tokio::test]
async fn the_log_keeps_its_length_and_older_revisions_expire() {
    let folder = tempfile::tempdir().unwrap();
    let storage = storage(&folder).await;
    let first = storage.commit(Key::new("configmaps", "n", "a"), Change::Create(object("a"))).await.unwrap();
    // As if many other objects had changed in between.
    storage
        .store
        .write(|tx| tx.execute("UPDATE revision SET current = current + ?1", [LOG_LENGTH]))
        .await
        .unwrap();
    let next = storage.commit(Key::new("configmaps", "n", "b"), Change::Create(object("b"))).await.unwrap();
    assert_eq!(next.revision, first.revision + LOG_LENGTH + 1);
    assert!(
        matches!(storage.replay("configmaps", first.revision).await.unwrap(), Replay::Expired(now) if now == next.revision)
    );
    match storage.replay("configmaps", next.revision - 1).await.unwrap() {
        Replay::Events(events, reached) => assert_eq!((events.len(), reached), (1, next.revision)),
        Replay::Expired(_) => panic!("recent revisions are kept"),
    }
    let kept: i64 =
        storage.store.read(|c| c.query_row("SELECT count(*) FROM log", [], |row| row.get(0))).await.unwrap();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn a_long_replay_comes_in_parts_without_gaps() {
    let folder = tempfile::tempdir().unwrap();
    let storage = storage(&folder).await;
    for at in 0..300 {
        let name = format!("o{at}");
        storage.commit(Key::new("configmaps", "n", &name), Change::Create(object(&name))).await.unwrap();
        storage.commit(Key::new("secrets", "n", &name), Change::Create(object(&name))).await.unwrap();
    }
    let (mut since, mut seen) = (1, 0);
    let current = storage.revision().await.unwrap();
    while since < current {
        match storage.replay("configmaps", since).await.unwrap() {
            Replay::Events(events, reached) => {
                seen += events.len();
                since = reached;
            }
            Replay::Expired(_) => panic!("nothing expired"),
        }
    }
    assert_eq!(seen, 300);
}

#[tokio::test]
async fn changes_are_conditional() {
    let folder = tempfile::tempdir().unwrap();
    let storage = storage(&folder).await;
    let key = Key::new("configmaps", "n", "a");
    let made = storage.commit(key.clone(), Change::Create(object("a"))).await.unwrap();
    assert!(matches!(
        storage.commit(key.clone(), Change::Create(object("a"))).await,
        Err(WriteError::Exists)
    ));
    let update = |expected| Change::Update { value: object("a"), expected, previous: Traits::default() };
    let updated = storage.commit(key.clone(), update(made.revision)).await.unwrap();
    assert!(matches!(storage.commit(key.clone(), update(made.revision)).await, Err(WriteError::Stale)));
    let delete =
        Change::Delete { value: object("a"), expected: updated.revision, previous: Traits::default() };
    storage.commit(key.clone(), delete).await.unwrap();
    assert!(matches!(storage.commit(key, update(updated.revision)).await, Err(WriteError::Missing)));
}
