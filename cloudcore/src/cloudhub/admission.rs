//! How many nodes may start a session per second. Pure.
//!
//! After an outage every node comes at once. Those beyond the rate are told when to come back, each at another time,
//! so that they form a line without holding anything here.

use std::time::Duration;

use daemon::rate::{Debt, Rate};
use tokio::time::Instant;

/// Longest time a node is sent away for; beyond it the line is only spread, not longer.
const LONGEST: Duration = Duration::from_secs(30);

/// A rate whose refusals are appointments.
#[derive(Debug)]
pub struct Admission {
    rate: Rate,
    started: Debt,
    /// Return time told to the last refused node; the next one is told a later one.
    last: Option<Instant>,
}

impl Admission {
    /// `rate` sessions per second, and `burst` at once.
    pub fn new(rate: u32, burst: u32) -> Admission {
        let rate = Rate::per_second(rate.into(), burst.max(1).into());
        Admission { rate, started: Debt::default(), last: None }
    }

    /// Lets a session start, or says after what time to come back.
    pub fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        let Err(wait) = self.started.take(&self.rate, 1, now) else { return Ok(()) };
        let after_last = self.last.map_or(now, |last| last + self.rate.time(1));
        let appointment = after_last.max(now + wait).min(now + LONGEST);
        self.last = Some(appointment);
        Err(appointment.duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_rest_gets_appointments_one_after_the_other() {
        let now = Instant::now();
        let mut admission = Admission::new(10, 3);
        assert!((0..3).all(|_| admission.admit(now).is_ok()));
        assert_eq!(admission.admit(now), Err(Duration::from_millis(100)));
        assert_eq!(admission.admit(now), Err(Duration::from_millis(200)));
        assert!(admission.admit(now + Duration::from_millis(100)).is_ok());
        assert!(admission.admit(now + Duration::from_millis(200)).is_ok());
        let later = now + Duration::from_secs(5);
        assert!((0..3).all(|_| admission.admit(later).is_ok()));
        assert!(admission.admit(later).is_err());
    }

    #[test]
    fn nobody_is_sent_away_for_longer_than_the_longest() {
        let now = Instant::now();
        let mut admission = Admission::new(1, 1);
        let longest = (0..1000).filter_map(|_| admission.admit(now).err()).max();
        assert_eq!(longest, Some(LONGEST));
    }
}
