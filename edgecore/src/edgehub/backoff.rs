//! Full-jitter exponential backoff between connection attempts.

use std::time::Duration;

use rand::Rng;

/// First ceiling: a CloudCore that restarts is found again within a second.
const BASE: Duration = Duration::from_millis(500);
/// Ceiling of ceilings.
const CAP: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Time to wait before the next attempt: uniform between nothing and a ceiling that doubles.
    pub fn next(&mut self) -> Duration {
        let ceiling = ceiling(self.failures);
        self.failures = self.failures.saturating_add(1);
        rand::rng().random_range(Duration::ZERO..=ceiling)
    }

    pub fn connected(&mut self) {
        self.failures = 0;
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }
}

fn ceiling(failures: u32) -> Duration {
    BASE.saturating_mul(1 << failures.min(16)).min(CAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_to_its_cap_and_starts_over_after_a_connection() {
        assert_eq!(ceiling(0), BASE);
        assert_eq!(ceiling(2), BASE * 4);
        assert_eq!(ceiling(u32::MAX), CAP);
        let mut backoff = Backoff::default();
        assert!(backoff.next() <= BASE);
        assert!(backoff.next() <= BASE * 2);
        backoff.connected();
        assert_eq!(backoff.failures(), 0);
    }
}
