//! The end of a process whose database writer failed, seen on a process of its own.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use store::{Options, Store};

const OPTIONS: Options = Options {
    migrations: &["CREATE TABLE t(k TEXT) STRICT"],
    cache_kib: 256,
    log_pages: 400,
    readers: 1,
    taken_over: None,
    recovery: store::Recovery::Refuse,
};

/// Set for that process: this test, started once more.
const FAILS: &str = "CAUSEWAY_TEST_WRITER_FAILS";

#[tokio::test]
async fn a_process_whose_writer_failed_after_a_commit_ends() {
    if std::env::var_os(FAILS).is_some() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("x.db"), &OPTIONS).unwrap();
        let _ = store.write_then(|tx| tx.execute("INSERT INTO t VALUES ('x')", []), |_| panic!("hook")).await;
        std::future::pending::<()>().await;
    }
    let name = "a_process_whose_writer_failed_after_a_commit_ends";
    let mut command = Command::new(std::env::current_exe().unwrap());
    let ended = command.args([name, "--exact"]).env(FAILS, "1").output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
}
