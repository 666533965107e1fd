//! Alone in its file, and so in its process: it counts what the process holds.
#![allow(clippy::unwrap_used)]

use store::{Options, Store};

const OPTIONS: Options = Options {
    migrations: &["CREATE TABLE t(k TEXT PRIMARY KEY) STRICT"],
    cache_kib: 256,
    log_pages: 400,
    readers: 2,
    taken_over: None,
    recovery: store::Recovery::Refuse,
};

fn entries(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn a_thousand_databases_in_memory_take_no_thread_and_no_file() {
    let held = || (entries("/proc/self/task"), entries("/proc/self/fd"));
    let before = held();
    let stores: Vec<Store> = (0..1000).map(|_| Store::in_memory(&OPTIONS).unwrap()).collect();
    for store in &stores {
        store.write(|tx| tx.execute("INSERT INTO t VALUES ('x')", [])).await.unwrap();
        let rows: i64 =
            store.read(|c| c.query_row("SELECT count(*) FROM t", [], |row| row.get(0))).await.unwrap();
        assert_eq!(rows, 1);
    }
    assert_eq!(held(), before);
}
