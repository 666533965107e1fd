//! Databases that were damaged, or whose disk takes no writes.

use std::path::Path;

use super::*;

const REFILLED: Options = Options { recovery: Recovery::Refill, ..OPTIONS };

fn filled(path: &Path) {
    // By hand: a store's threads close its files a moment after it is dropped.
    let db = Connection::open(path).unwrap();
    db.execute_batch(OPTIONS.migrations[0]).unwrap();
    for n in 0..200 {
        db.execute("INSERT INTO t VALUES (?1, ?2)", rusqlite::params![format!("{n}-{}", "x".repeat(200)), n])
            .unwrap();
    }
    db.pragma_update(None, "user_version", 1).unwrap();
}

/// Names of files in the folder of `path`.
fn files(path: &Path) -> Vec<String> {
    let names = std::fs::read_dir(path.parent().unwrap()).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_damaged_database_is_kept_aside_if_it_can_be_filled_again_and_refused_if_not() {
    let whole = |file: &mut Vec<u8>| file.truncate(5000);
    let header = |file: &mut Vec<u8>| file[..100].fill(0x5a);
    let middle = |file: &mut Vec<u8>| {
        let half = file.len() / 2 / 4096 * 4096;
        file[half..half + 8192].fill(0x5a);
    };
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 3] = [("cut", whole), ("header", header), ("middle", middle)];
    for (name, damage) in damages {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        filled(&path);
        let mut bytes = std::fs::read(&path).unwrap();
        damage(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        let error = Store::open(&path, &OPTIONS).err().unwrap().to_string();
        assert!(error.contains("s.db") && error.contains("backup"), "{name}: {error}");
        assert_eq!(std::fs::read(&path).unwrap().len(), bytes.len(), "{name}: nothing is done to it");
        let store = Store::open(&path, &REFILLED).unwrap();
        assert_eq!(count(&store).await, 0, "{name}");
        store.write(put("new", 1)).await.unwrap();
        let kept = std::fs::read(folder.path().join("s.db.damaged-1")).unwrap();
        assert!(kept == bytes, "{name}: it was changed");
    }
}

#[tokio::test]
async fn an_empty_file_is_a_new_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    std::fs::write(&path, b"").unwrap();
    assert_eq!(count(&Store::open(&path, &REFILLED).unwrap()).await, 0);
    assert!(!files(&path).iter().any(|file| file.contains("damaged")));
}

#[tokio::test]
async fn what_was_deleted_is_not_on_the_disk_after_a_wipe() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let store = Store::open(&path, &OPTIONS).unwrap();
    let secret = format!("top-secret-{}", "y".repeat(9000));
    store.write(put(&secret, 1)).await.unwrap();
    store.write(put("other", 2)).await.unwrap();
    let key = secret.clone();
    store.write(move |tx| tx.execute("DELETE FROM t WHERE k = ?1", [key])).await.unwrap();
    store.wipe().await.unwrap();
    for file in files(&path) {
        let bytes = std::fs::read(folder.path().join(&file)).unwrap();
        let found = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        assert!(!found(b"top-secret") && !found(&[b'y'; 100]), "{file}");
    }
    assert_eq!(count(&store).await, 1);
}

#[tokio::test]
async fn what_was_deleted_before_rows_were_wiped_is_not_on_the_disk_after_a_rewrite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    filled(&path);
    let db = Connection::open(&path).unwrap();
    db.execute("DELETE FROM t WHERE v > 0", []).unwrap();
    drop(db);
    let found = || std::fs::read(&path).unwrap().windows(100).any(|window| window == [b'x'; 100]);
    let store = Store::open(&path, &OPTIONS).unwrap();
    store.write(|tx| tx.execute("DELETE FROM t", [])).await.unwrap();
    store.wipe().await.unwrap();
    assert!(found(), "it is not told from a wipe");
    let (written, rewritten) = tokio::join!(store.write(put("new", 1)), store.rewrite());
    assert!(written.is_ok() && rewritten.is_ok());
    assert!(!found() && std::fs::metadata(folder.path().join("s.db-wal")).unwrap().len() == 0);
    assert_eq!(count(&store).await, 1);
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let theirs = Connection::open(&path).unwrap();
    theirs.execute_batch("CREATE TABLE theirs(x); INSERT INTO theirs VALUES (1)").unwrap();
    drop(theirs);
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(&path, &REFILLED).err().unwrap().to_string();
    assert!(error.contains("s.db") && error.contains("another program"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(files(&path), ["s.db"]);
    let taken_over = Options { taken_over: Some("theirs"), ..REFILLED };
    assert_eq!(count(&Store::open(&path, &taken_over).unwrap()).await, 0);
}
