//! How often registries are asked: so many pulls a second, more after a rest.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A bucket of pulls that fills with time.
pub struct Pace {
    per_second: u32,
    burst: u32,
    bucket: Mutex<(f64, Instant)>,
}

impl Pace {
    /// Without a rate there is no limit.
    pub fn new(per_second: u32, burst: u32) -> Pace {
        Pace { per_second, burst, bucket: Mutex::new((f64::from(burst), Instant::now())) }
    }

    /// Returns when the next pull may begin.
    pub async fn wait(&self) {
        tokio::time::sleep(self.next(Instant::now())).await;
    }

    fn next(&self, now: Instant) -> Duration {
        if self.per_second == 0 {
            return Duration::ZERO;
        }
        let rate = f64::from(self.per_second);
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = *bucket;
        let filled = (left + now.duration_since(since).as_secs_f64() * rate).min(f64::from(self.burst));
        // A debt is worked off by those who wait.
        *bucket = (filled - 1.0, now);
        Duration::from_secs_f64(((1.0 - filled) / rate).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_waits_its_turn() {
        let pace = Pace::new(5, 2);
        let now = Instant::now();
        let waits: Vec<u128> = (0..4).map(|_| pace.next(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 200, 400]);
        assert_eq!(pace.next(now + Duration::from_secs(60)), Duration::ZERO);
        assert_eq!(Pace::new(0, 1).next(now), Duration::ZERO);
    }
}
