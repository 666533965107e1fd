//! How fast the broker works for all its clients together, so that clients that flood it do not take the machine from
//! the programs beside it. What is over the rate stays in the kernel's buffers, where TCP holds the sender back.

use daemon::rate::{Debt, Rate};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// A rate whose takers wait in line, each for its turn.
pub(super) struct Pace {
    rate: Rate,
    taken: Mutex<Debt>,
}

impl Pace {
    /// `rate` units per second, and `burst` at once after a pause.
    pub(super) fn new(rate: u64, burst: u64) -> Pace {
        Pace { rate: Rate::per_second(rate, burst), taken: Mutex::default() }
    }

    /// Takes `units`, and returns when the next may be taken. Who comes meanwhile waits behind the caller.
    pub(super) async fn take(&self, units: u64) {
        let mut taken = self.taken.lock().await;
        let now = Instant::now();
        let wait = taken.owe(&self.rate, units, now);
        tokio::time::sleep_until(now + wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_what_is_over_it_waits_in_line() {
        let (pace, start) = (Pace::new(100, 50), Instant::now());
        for _ in 0..5 {
            pace.take(10).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        let large = async {
            pace.take(100).await;
            start.elapsed()
        };
        let small = async {
            pace.take(10).await;
            start.elapsed()
        };
        assert_eq!(tokio::join!(large, small), (Duration::from_secs(1), Duration::from_millis(1100)));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let rested = Instant::now();
        pace.take(50).await;
        assert_eq!(rested.elapsed(), Duration::ZERO);
    }
}
