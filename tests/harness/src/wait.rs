//! Waiting for something to become true, with a deadline and a name.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Longest wait for anything that normally takes seconds. It ends what hangs, and is no measure of speed: tests run beside
/// one another on slow and busy machines.
pub const PATIENCE: Duration = Duration::from_secs(180);

const POLL: Duration = Duration::from_millis(50);

/// Asks `probe` until it gives a value. After `deadline` the error names `what` and the last answer `probe` gave.
#[allow(clippy::disallowed_methods)] // Blocking code of tests and tools: no runtime thread waits here.
pub fn until<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    let mut last;
    loop {
        match probe() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => last = "not yet".to_owned(),
            Err(error) => last = format!("{error:#}"),
        }
        if start.elapsed() > deadline {
            bail!("{what}: not within {deadline:?} (last answer: {last})");
        }
        std::thread::sleep(POLL);
    }
}

/// Like [`until`], for a condition.
pub fn for_true(what: &str, deadline: Duration, mut probe: impl FnMut() -> Result<bool>) -> Result<()> {
    until(what, deadline, || Ok(probe()?.then_some(())))
}

/// Lets time pass.
#[allow(clippy::disallowed_methods)] // As above.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// The monotonic clock, for measuring.
#[allow(clippy::disallowed_methods)] // Measuring is this crate's business.
pub fn now() -> Instant {
    Instant::now()
}
