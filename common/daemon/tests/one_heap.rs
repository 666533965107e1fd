//! The test's own program is what starts once more.
#![cfg(target_env = "gnu")]
#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};

const TEST: &str = "a_program_starts_once_more_as_the_same_process_with_one_heap";
const STARTED: &str = "ONE_HEAP_TEST";

#[test]
fn a_program_starts_once_more_as_the_same_process_with_one_heap() {
    if std::env::var_os(STARTED).is_some() {
        daemon::memory::share_one_heap().unwrap();
        let name = std::fs::read_to_string("/proc/self/comm").unwrap();
        let tunables = std::env::var("GLIBC_TUNABLES").unwrap();
        println!("{} {} {tunables}", std::process::id(), name.trim());
        return;
    }
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", TEST, "--nocapture"]).env(STARTED, "1").env_remove("GLIBC_TUNABLES");
    let child = program.stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    // A name in the kernel has 15 bytes.
    let program = std::env::current_exe().unwrap();
    let name: String = program.file_name().unwrap().to_str().unwrap().chars().take(15).collect();
    let told = "glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0";
    // Once: a second start would have added its part again.
    assert!(said.contains(&format!("{pid} {name} {told}\n")), "{said}");
}
