//! Waits that double up to a limit, with jitter so that many who failed together do not come back together.

use std::time::Duration;

/// The wait after `failures` failures and one more: `first`, doubled for each, and never longer than `cap`.
pub fn doubled(first: Duration, cap: Duration, failures: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(cap)
}

/// Waits between attempts at one thing.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// The first wait is at most `first`, none is longer than `cap`.
    pub fn new(first: Duration, cap: Duration) -> Backoff {
        Backoff { first, cap, failures: 0 }
    }

    /// The wait after one more failure: between half of the step and all of it.
    #[allow(clippy::should_implement_trait)] // Endless; an iterator's adapters would have no use.
    pub fn next(&mut self) -> Duration {
        let step = doubled(self.first, self.cap, self.failures);
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// It worked: the next failure waits shortly again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubling_stops_at_the_cap_and_does_not_overflow() {
        let wait = |failures| doubled(Duration::from_secs(1), Duration::from_secs(300), failures).as_secs();
        assert_eq!([0, 1, 5, 8, 9, 31, 32, u32::MAX].map(wait), [1, 2, 32, 256, 300, 300, 300, 300]);
    }

    #[test]
    fn waits_double_up_to_the_cap_and_start_over_after_success() {
        let (first, cap) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut backoff = Backoff::new(first, cap);
        let waits: Vec<Duration> = (0..8).map(|_| backoff.next()).collect();
        assert!(waits[0] >= first / 2 && waits[0] <= first, "{waits:?}");
        assert!(waits[7] >= cap / 2 && waits.iter().all(|wait| *wait <= cap), "{waits:?}");
        backoff.reset();
        assert!(backoff.next() <= first);
    }
}
