//! Signals, on a process of its own.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

/// Set for the process that is sent signals: this test, started once more.
const HANGS: &str = "CAUSEWAY_TEST_HANGS";

#[test]
fn the_first_signal_asks_and_the_second_ends_a_process_that_hangs() {
    if std::env::var_os(HANGS).is_some() {
        hang();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["the_first_signal_asks_and_the_second_ends_a_process_that_hangs", "--exact", "--nocapture"])
        .env(HANGS, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.by_ref().any(|line| line.ends_with("listening")));
    signal(&child, rustix::process::Signal::TERM);
    assert!(lines.by_ref().any(|line| line.ends_with("asked")));
    assert!(child.try_wait().unwrap().is_none(), "one signal only asks");
    signal(&child, rustix::process::Signal::INT);
    let status = within(Duration::from_secs(10), &mut child);
    assert_eq!((status.code(), status.signal()), (Some(1), None));
}

/// Hangs on the only thread of its runtime once it was asked to stop.
fn hang() -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stop = daemon::stop::on_signals().unwrap();
        println!("listening");
        stop.cancelled().await;
        println!("asked");
        loop {
            std::thread::park();
        }
    })
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn within(limit: Duration, child: &mut Child) -> std::process::ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if began.elapsed() > limit {
            child.kill().unwrap();
            panic!("the process did not end");
        }
        std::thread::yield_now();
    }
}
