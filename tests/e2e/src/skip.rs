//! When a test cannot run on this machine.

/// Why containers cannot run here, printed; with `CI` set it is a failure instead.
#[allow(clippy::print_stderr)]
pub fn without_containers() -> bool {
    let Some(reason) = harness::containerd::missing(true) else { return false };
    assert!(std::env::var_os("CI").is_none(), "this test must run in CI, and cannot: {reason}");
    eprintln!("skipped: {reason}");
    true
}

/// True, and why is printed, beside a cluster that is [given](harness::given): the test needs `what` of the embedded API server.
#[allow(clippy::print_stderr)]
pub fn beside_a_cluster(what: &str) -> bool {
    let is_given = harness::given::kubeconfig().is_some();
    if is_given {
        eprintln!("skipped: it needs {what} of the embedded API server");
    }
    is_given
}
