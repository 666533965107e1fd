//! What a node has cost lately: one that sends without end, breaks the protocol again and again, or connects all the time
//! slows down itself and nobody else. Outlives its sessions, or a new one would start with a clean slate. Pure but for
//! the lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use message::NodeName;
use tokio::time::Instant;

const MIB: u64 = 1024 * 1024;
/// Bytes per second a node may send for good.
const RATE: u64 = MIB;
/// Bytes it may send at once.
const BURST: u64 = 16 * MIB;
/// Longest time a node is made to wait for what it did.
const LONGEST: Duration = Duration::from_secs(60);

/// Accounts kept without looking whether they are even.
const FEWEST: usize = 1024;

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

/// One entry per node whose account is not even. Clones share it.
#[derive(Clone, Default)]
pub struct RateAccounts {
    accounts: Arc<Mutex<Accounts>>,
}

#[derive(Default)]
struct Accounts {
    /// When a node's account is even again; it may be ahead by the burst.
    even: HashMap<NodeName, Instant>,
    /// At how many entries the even ones are dropped.
    full: usize,
}

impl Accounts {
    /// Called before an entry is made. Drops the accounts that are even, which are worth as much as none, each time the
    /// table has grown to twice what the last look left in it: no entry pays for more than one look at another.
    fn make_room(&mut self, now: Instant) {
        if self.even.len() < self.full.max(FEWEST) {
            return;
        }
        self.even.retain(|_, even| *even > now);
        self.full = self.even.len() * 2;
        self.even.shrink_to(self.full);
    }
}

impl RateAccounts {
    /// Writes a deed down. Says until when nothing more should be taken from the node, if it has gone too far.
    pub fn note(&self, node: &NodeName, deed: Charge, now: Instant) -> Option<Instant> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let price = Duration::from_micros(deed.cost() * 1_000_000 / RATE);
        let ahead = |even: Instant| (even.max(now) + price).min(now + burst() + LONGEST);
        if let Some(even) = accounts.even.get_mut(node) {
            *even = ahead(*even);
            return due(*even, now);
        }
        accounts.make_room(now);
        accounts.even.insert(node.clone(), ahead(now));
        due(ahead(now), now)
    }

    /// How long the node has to stay away.
    pub fn barred(&self, node: &NodeName, now: Instant) -> Option<Duration> {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        due(*accounts.even.get(node)?, now).map(|due| due.duration_since(now))
    }
}

fn due(even: Instant, now: Instant) -> Option<Instant> {
    (even > now + burst()).then(|| even - burst())
}

fn burst() -> Duration {
    Duration::from_secs(BURST / RATE)
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
            rate_accounts.note(&node("a"), Charge::Connected, now + LONGEST + burst()),
            None,
            "forgiven in the end"
        );
    }

    #[test]
    fn names_that_came_once_are_not_kept() {
        let (rate_accounts, start) = (RateAccounts::default(), Instant::now());
        rate_accounts.note(&node("hostile"), Charge::Sent(60 << 20), start);
        for i in 0..100_000u64 {
            let now = start + Duration::from_micros(i * 300);
            rate_accounts.note(&node(&format!("node-{i}")), Charge::Connected, now);
        }
        let accounts = rate_accounts.accounts.lock().unwrap();
        assert!(accounts.even.len() <= FEWEST, "{} accounts", accounts.even.len());
        assert!(accounts.even.contains_key(&node("hostile")), "what is owed stays");
    }
}
