//! What a node has cost lately: one that sends without end, breaks the protocol again and again, or connects all the time
//! slows down itself and nobody else. Outlives its sessions, or a new one would start with a clean slate. Pure but for
//! the lock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::rate::{Debts, Rate};
use message::NodeName;
use tokio::time::Instant;

const MIB: u64 = 1024 * 1024;
/// Bytes a node may send for good, and at once.
const RATE: Rate = Rate::per_second(MIB, 16 * MIB);
/// Longest time a node is made to wait for what it did.
const LONGEST: Duration = Duration::from_secs(60);

/// What things cost, in bytes.
const MESSAGE: u64 = 256;
const SESSION: u64 = MIB / 16;
const VIOLATION: u64 = MIB / 4;
const TOO_MUCH: u64 = MIB;
/// A healthy node is never refused an object for having made too many.
const MADE_TOO_MUCH: u64 = MIB / 16;

/// Something a node did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    Connected,
    /// Sent a message of so many bytes.
    Sent(usize),
    /// Sent what is no message.
    BrokeProtocol,
    /// Sent more than is read of one message, which is so many bytes.
    SentTooMuch(usize),
    /// Asked for more objects than a node may make.
    MadeTooMuch,
}

impl Charge {
    fn cost(self) -> u64 {
        match self {
            Charge::Connected => SESSION,
            Charge::Sent(bytes) => (bytes as u64).max(MESSAGE),
            Charge::BrokeProtocol => VIOLATION,
            Charge::SentTooMuch(bytes) => (bytes as u64).max(TOO_MUCH),
            Charge::MadeTooMuch => MADE_TOO_MUCH,
        }
    }
}

/// What each node owes. Clones share it.
#[derive(Clone, Default)]
pub struct RateAccounts {
    owed: Arc<Mutex<Debts<NodeName>>>,
}

impl RateAccounts {
    fn lock(&self) -> MutexGuard<'_, Debts<NodeName>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Charges the node. Says until when nothing more should be taken from it, if it has gone too far.
    pub fn note(&self, node: &NodeName, charge: Charge, now: Instant) -> Option<Instant> {
        let wait = self.lock().of(node, now).owe_at_most(&RATE, charge.cost(), LONGEST, now);
        (!wait.is_zero()).then(|| now + wait)
    }

    /// How long the node has to stay away.
    pub fn barred(&self, node: &NodeName, now: Instant) -> Option<Duration> {
        let wait = self.lock().get(node)?.wait(&RATE, now);
        (!wait.is_zero()).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    #[test]
    fn a_node_that_sends_without_end_waits_and_others_do_not() {
        let (rate_accounts, now) = (RateAccounts::default(), Instant::now());
        assert_eq!(rate_accounts.note(&node("a"), Charge::Sent(16 << 20), now), None);
        let until = rate_accounts.note(&node("a"), Charge::Sent(2 << 20), now).unwrap();
        assert_eq!(until - now, Duration::from_secs(2));
        assert_eq!(rate_accounts.barred(&node("a"), now), Some(Duration::from_secs(2)));
        assert_eq!(rate_accounts.barred(&node("a"), until), None);
        assert_eq!(rate_accounts.note(&node("b"), Charge::Sent(1), now), None);
        assert_eq!(rate_accounts.barred(&node("c"), now), None);
    }

    #[test]
    fn messages_without_an_end_cost_what_was_read_of_them() {
        let (rate_accounts, now) = (RateAccounts::default(), Instant::now());
        let due = |_| rate_accounts.note(&node("a"), Charge::SentTooMuch(4 << 20), now);
        assert_eq!(
            (0..5).map(due).map(|until| until.is_some()).collect::<Vec<_>>(),
            [false, false, false, false, true]
        );
    }

    #[test]
    fn a_node_that_makes_more_objects_than_it_may_waits_soon_and_long() {
        let (rate_accounts, now) = (RateAccounts::default(), Instant::now());
        let due = |_| rate_accounts.note(&node("a"), Charge::MadeTooMuch, now);
        assert!((0..256).filter_map(due).next().is_none());
        let until = (0..160).fold(None, |_, number| due(number)).unwrap();
        assert_eq!(until - now, Duration::from_secs(10));
    }

    #[test]
    fn a_few_violations_and_reconnects_are_forgiven_and_no_wait_is_longer_than_a_minute() {
        let (rate_accounts, now) = (RateAccounts::default(), Instant::now());
        for _ in 0..50 {
            assert_eq!(rate_accounts.note(&node("a"), Charge::Connected, now), None);
            assert_eq!(rate_accounts.note(&node("a"), Charge::BrokeProtocol, now), None);
        }
        for _ in 0..100 {
            rate_accounts.note(&node("a"), Charge::SentTooMuch(0), now);
        }
        assert_eq!(rate_accounts.barred(&node("a"), now), Some(LONGEST));
        assert_eq!(rate_accounts.barred(&node("a"), now + LONGEST), None);
        assert_eq!(
            rate_accounts.note(&node("a"), Charge::Connected, now + LONGEST + RATE.burst()),
            None,
            "forgiven in the end"
        );
    }
}
