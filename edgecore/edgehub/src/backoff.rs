//! Full-jitter exponential backoff between connection attempts.

use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

/// First ceiling.
const BASE: Duration = Duration::from_millis(500);
/// Ceiling of ceilings.
const CAP: Duration = Duration::from_secs(30);
/// Ceiling while the host answers that nothing listens yet: its program restarts, and asking costs one packet.
const RESTART_CAP: Duration = Duration::from_millis(750);
/// How long a restart may take before it counts as an outage.
const RESTART_TIME: Duration = Duration::from_secs(60);
/// A connection that the cloud closed sooner than this was no success.
const HELD: Duration = Duration::from_secs(5);

/// Why an attempt failed, as far as it says when the next may succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The host is there and refuses the connection.
    NobodyListens,
    /// The cloud asked to be left alone for a while.
    Asked(Duration),
    Other,
}

#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    /// Of these, those that say that the cloud has too much to do, or is out of reach.
    outages: u32,
    since: Option<Instant>,
}

impl Backoff {
    /// Time to wait before the next attempt: uniform between nothing and a ceiling that doubles.
    pub(crate) fn next(&mut self, failure: Failure, now: Instant) -> Duration {
        let since = *self.since.get_or_insert(now);
        let asked = ceiling(self.failures).min(RESTART_CAP);
        let ceiling = ceiling(self.outages);
        self.failures = self.failures.saturating_add(1);
        match failure {
            // The cloud spreads those it sends away; a little of our own keeps clocks that agree apart.
            Failure::Asked(wait) => wait + jitter(BASE),
            // However often it is asked meanwhile: the first attempt that finds the cloud again must not wait for it.
            Failure::NobodyListens if now.duration_since(since) < RESTART_TIME => jitter(asked),
            _ => {
                self.outages = self.outages.saturating_add(1);
                jitter(ceiling)
            }
        }
    }

    /// A connection ended after `held`. `closed`: by the cloud, on purpose; a link that broke or a cloud that died says
    /// nothing about the next attempt.
    pub(crate) fn connected(&mut self, held: Duration, closed: bool) {
        if held >= HELD || !closed {
            *self = Backoff::default();
        }
        // The next failure begins an outage of its own.
        self.since = None;
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

fn jitter(ceiling: Duration) -> Duration {
    rand::rng().random_range(Duration::ZERO..=ceiling)
}

fn ceiling(failures: u32) -> Duration {
    daemon::backoff::doubled(BASE, CAP, failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_to_its_cap_and_starts_over_after_a_connection_that_held() {
        assert_eq!(ceiling(0), BASE);
        assert_eq!(ceiling(2), BASE * 4);
        assert_eq!(ceiling(u32::MAX), CAP);
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        assert!(backoff.next(Failure::Other, now) <= BASE);
        assert!(backoff.next(Failure::Other, now) <= BASE * 2);
        backoff.connected(Duration::ZERO, true);
        assert_eq!(backoff.failures(), 2);
        backoff.connected(HELD, true);
        assert_eq!(backoff.failures(), 0);
        backoff.next(Failure::Other, now);
        backoff.connected(Duration::ZERO, false);
        assert_eq!(backoff.failures(), 0);
    }

    #[test]
    fn a_host_that_restarts_its_program_is_asked_often_and_only_for_a_while() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        assert!((0..50).all(|_| backoff.next(Failure::NobodyListens, now) <= RESTART_CAP));
        // It is back, and too busy for the first attempt.
        assert!(backoff.next(Failure::Other, now) <= BASE);
        let later = now + RESTART_TIME;
        assert!((0..50).any(|_| backoff.next(Failure::NobodyListens, later) > RESTART_CAP));
    }

    #[test]
    fn an_edge_that_is_asked_to_wait_never_comes_back_early() {
        let wait = Duration::from_secs(9);
        let mut backoff = Backoff::default();
        assert!((0..50).all(|_| backoff.next(Failure::Asked(wait), Instant::now()) >= wait));
    }
}
