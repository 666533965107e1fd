//! How often registries are asked: so many pulls a second, more after a rest.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use daemon::rate::{Debt, Rate};
use tokio::time::Instant;

/// Pulls that wait for their turn.
pub struct Pace {
    rate: Option<Rate>,
    taken: Mutex<Debt>,
}

impl Pace {
    /// So many at once, and so many per second after that; with 0 per second there is no limit.
    pub fn new(per_second: u32, burst: u32) -> Pace {
        let rate = (per_second > 0).then(|| Rate::per_second(per_second.into(), burst.into()));
        Pace { rate, taken: Mutex::default() }
    }

    /// Returns when the next pull may begin.
    pub async fn wait(&self) {
        tokio::time::sleep(self.next(Instant::now())).await;
    }

    fn next(&self, now: Instant) -> Duration {
        let Some(rate) = &self.rate else { return Duration::ZERO };
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).owe(rate, 1, now)
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
