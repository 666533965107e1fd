//! When a test cannot run on this machine.

/// Why containers cannot run here, printed; with `CI` set it is a failure instead.
#[allow(clippy::print_stderr)]
pub fn without_containers() -> bool {
    let Some(reason) = harness::containerd::missing(true) else { return false };
    assert!(std::env::var_os("CI").is_none(), "this test must run in CI, and cannot: {reason}");
    eprintln!("skipped: {reason}");
    true
}
