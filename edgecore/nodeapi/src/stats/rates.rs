//! CPU rates between two requests.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// Readings nearer than this to each other give no rate worth telling.
const NEAREST: SignedDuration = SignedDuration::from_millis(500);
/// Readings further apart describe the past.
const FURTHEST: SignedDuration = SignedDuration::from_mins(10);

/// The last reading of each cgroup or container.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<HashMap<String, Reading>>);

#[derive(Clone, Copy, Debug)]
struct Reading {
    nanos: u64,
    at: Timestamp,
    rate: Option<u64>,
}

impl Rates {
    /// Nanoseconds of CPU per second since the reading before, and keeps this one.
    pub(crate) fn of(&self, key: &str, nanos: u64, now: Timestamp) -> Option<u64> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = known.get(key).copied() else {
            known.insert(key.to_owned(), Reading { nanos, at: now, rate: None });
            return None;
        };
        let elapsed = now.duration_since(last.at);
        if !elapsed.is_negative() && elapsed < NEAREST {
            return last.rate;
        }
        let seconds = elapsed.as_secs_f64();
        let rate = (seconds > 0.0 && elapsed <= FURTHEST && nanos >= last.nanos)
            .then(|| ((nanos - last.nanos) as f64 / seconds) as u64);
        known.insert(key.to_owned(), Reading { nanos, at: now, rate });
        rate
    }

    /// Drops readings nobody will compare with.
    pub(crate) fn forget_old(&self, now: Timestamp) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, reading| now.duration_since(reading.at) <= FURTHEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_difference_to_the_reading_before() {
        let (rates, start) = (Rates::default(), Timestamp::UNIX_EPOCH);
        let after = |seconds: f64| start + SignedDuration::from_secs_f64(seconds);
        assert_eq!(rates.of("a", 1_000, after(0.0)), None);
        assert_eq!(rates.of("a", 5_000, after(2.0)), Some(2_000));
        assert_eq!(rates.of("a", 9_000, after(2.1)), Some(2_000), "too near: the last rate");
        assert_eq!(rates.of("a", 1, after(4.0)), None, "a counter that began anew");
        assert_eq!(rates.of("a", 2, after(5000.0)), None, "too long ago");
        rates.forget_old(after(6000.0));
        assert!(rates.0.lock().unwrap().is_empty());
    }
}
