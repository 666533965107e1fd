//! Waits that double up to a limit, with jitter so that many who failed together do not come back together.

use std::time::Duration;

/// Waits between attempts at one thing.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    next: Duration,
}

impl Backoff {
    /// The first wait is at most `first`, none is longer than `cap`.
    pub fn new(first: Duration, cap: Duration) -> Backoff {
        Backoff { first, cap, next: first }
    }

    /// The wait after one more failure: between half of the step and all of it.
    #[allow(clippy::should_implement_trait)] // Endless; an iterator's adapters would have no use.
    pub fn next(&mut self) -> Duration {
        let step = self.next.min(self.cap);
        self.next = (step * 2).min(self.cap);
        step.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// It worked: the next failure waits shortly again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
