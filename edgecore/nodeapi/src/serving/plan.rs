//! When the certificate is renewed, and when what failed is tried again. Pure.

use std::time::Duration;

/// First and longest wait after a failure; between them it doubles. Clouds take one request of a node in ten minutes, on the
/// average.
const RETRY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// A moment (Unix seconds) between 0.7 and 0.9 of the life of a certificate (`pkg/kubelet` and its certificate manager);
/// `random` is in 0..1.
pub(super) fn renewal((begin, end): (i64, i64), random: f64) -> i64 {
    let lifetime = end.saturating_sub(begin).max(0);
    begin + (lifetime as f64 * (0.7 + 0.2 * random)).round() as i64
}

/// Failures in a row.
#[derive(Default)]
pub(super) struct Retry(u32);

impl Retry {
    /// How long to wait, and whether it is the first.
    pub(super) fn failed(&mut self) -> (Duration, bool) {
        let wait = daemon::backoff::doubled(RETRY.0, RETRY.1, self.0);
        self.0 = self.0.saturating_add(1);
        (wait, self.0 == 1)
    }

    pub(super) fn over(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_between_seven_and_nine_tenths_of_its_life() {
        assert_eq!(renewal((0, 1000), 0.0), 700);
        assert!(renewal((0, 1000), 0.99) < 900);
        assert_eq!(renewal((1000, 0), 0.5), 1000, "one that makes no sense is due at once");
    }

    #[test]
    fn waits_grow_up_to_ten_minutes_and_only_the_first_failure_is_news() {
        let mut retry = Retry::default();
        let waits: Vec<(u64, bool)> =
            (0..8).map(|_| retry.failed()).map(|(wait, is_first)| (wait.as_secs(), is_first)).collect();
        assert_eq!(waits[..3], [(10, true), (20, false), (40, false)]);
        assert_eq!(waits[7], (600, false));
        retry.over();
        assert!(retry.failed().1);
    }
}
