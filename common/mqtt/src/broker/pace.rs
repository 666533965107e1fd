//! How fast the broker works for all its clients together, so that clients that flood it do not take the machine from
//! the programs beside it. What is over the rate stays in the kernel's buffers, where TCP holds the sender back.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// A token bucket whose takers wait in line, each for its turn.
pub(super) struct Pace {
    /// Units per second.
    rate: u64,
    /// Units that may be taken at once after a pause.
    burst: u64,
    /// When the bucket will be full again.
    full: Mutex<Instant>,
}

impl Pace {
    pub fn new(rate: u64, burst: u64) -> Pace {
        Pace { rate: rate.max(1), burst, full: Mutex::new(Instant::now()) }
    }

    /// Takes `units`, and returns when the next may be taken. Who comes meanwhile waits behind the caller.
    pub async fn take(&self, units: u64) {
        let mut full = self.full.lock().await;
        let now = Instant::now();
        *full = (*full).max(now) + self.duration(units);
        tokio::time::sleep_until(*full - self.duration(self.burst).min(*full - now)).await;
    }

    fn duration(&self, units: u64) -> Duration {
        Duration::from_nanos(units.saturating_mul(1_000_000_000) / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
