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

/// What things cost, in bytes.
const MESSAGE: u64 = 256;
const SESSION: u64 = MIB / 16;
const VIOLATION: u64 = MIB / 4;
const TOO_MUCH: u64 = MIB;

/// Something a node did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Connected,
    /// Sent a message of so many bytes.
    Sent(usize),
    /// Sent what is no message.
    BrokeProtocol,
    /// Sent more than is read of one message.
    SentTooMuch,
}

impl Deed {
    fn cost(self) -> u64 {
        match self {
            Deed::Connected => SESSION,
            Deed::Sent(bytes) => (bytes as u64).max(MESSAGE),
            Deed::BrokeProtocol => VIOLATION,
            Deed::SentTooMuch => TOO_MUCH,
        }
    }
}

/// One entry per node that has connected. Clones share it.
#[derive(Clone, Default)]
pub struct Conduct {
    /// When a node's account is even again; it may be ahead by the burst.
    even: Arc<Mutex<HashMap<NodeName, Instant>>>,
}

impl Conduct {
    /// Writes a deed down. Says until when nothing more should be taken from the node, if it has gone too far.
    pub fn note(&self, node: &NodeName, deed: Deed, now: Instant) -> Option<Instant> {
        let mut even = self.even.lock().unwrap_or_else(PoisonError::into_inner);
        let price = Duration::from_micros(deed.cost() * 1_000_000 / RATE);
        let entry = match even.get_mut(node) {
            Some(entry) => entry,
            None => even.entry(node.clone()).or_insert(now),
        };
        *entry = (*entry).max(now) + price;
        *entry = (*entry).min(now + burst() + LONGEST);
        Self::due(*entry, now)
    }

    /// How long the node has to stay away.
    pub fn barred(&self, node: &NodeName, now: Instant) -> Option<Duration> {
        let even = self.even.lock().unwrap_or_else(PoisonError::into_inner);
        Self::due(*even.get(node)?, now).map(|due| due.duration_since(now))
    }

    fn due(even: Instant, now: Instant) -> Option<Instant> {
        (even > now + burst()).then(|| even - burst())
    }
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
        let (conduct, now) = (Conduct::default(), Instant::now());
        assert_eq!(conduct.note(&node("a"), Deed::Sent(16 << 20), now), None);
        let until = conduct.note(&node("a"), Deed::Sent(2 << 20), now).unwrap();
        assert_eq!(until - now, Duration::from_secs(2));
        assert_eq!(conduct.barred(&node("a"), now), Some(Duration::from_secs(2)));
        assert_eq!(conduct.barred(&node("a"), until), None);
        assert_eq!(conduct.note(&node("b"), Deed::Sent(1), now), None);
        assert_eq!(conduct.barred(&node("c"), now), None);
    }

    #[test]
    fn a_few_violations_and_reconnects_are_forgiven_and_no_wait_is_longer_than_a_minute() {
        let (conduct, now) = (Conduct::default(), Instant::now());
        for _ in 0..50 {
            assert_eq!(conduct.note(&node("a"), Deed::Connected, now), None);
            assert_eq!(conduct.note(&node("a"), Deed::BrokeProtocol, now), None);
        }
        for _ in 0..100 {
            conduct.note(&node("a"), Deed::SentTooMuch, now);
        }
        assert_eq!(conduct.barred(&node("a"), now), Some(LONGEST));
        assert_eq!(conduct.barred(&node("a"), now + LONGEST), None);
        assert_eq!(
            conduct.note(&node("a"), Deed::Connected, now + LONGEST + burst()),
            None,
            "forgiven in the end"
        );
    }
}
