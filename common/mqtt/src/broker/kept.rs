//! The messages the broker keeps: in queues, under way to clients, retained, as wills. Each is there once, however many
//! sessions wait for it, and counts for as long as it lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::{Publish, QoS};

/// What a message takes besides its topic and payload, in bytes: three allocations and what holds them.
const MESSAGE: usize = 192;
/// What its place in a queue takes, in bytes; lists that grow are half empty.
const PLACE: usize = 64;

/// Bytes of all messages that are kept. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Arc<AtomicUsize>);

impl Ledger {
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn subtract(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A message that counts while it lives.
#[derive(Debug)]
pub(super) struct Message {
    pub topic: String,
    pub payload: Bytes,
    ledger: Ledger,
}

impl Message {
    pub(super) fn new(topic: &str, payload: &Bytes, ledger: &Ledger) -> Arc<Message> {
        let message = Message { topic: topic.to_owned(), payload: payload.clone(), ledger: ledger.clone() };
        ledger.add(message.size());
        Arc::new(message)
    }

    /// Bytes it takes.
    pub(super) fn size(&self) -> usize {
        MESSAGE + self.topic.len() + self.payload.len()
    }

    /// The message as it is published again.
    pub(super) fn publish(&self, qos: QoS, retain: bool) -> Publish {
        Publish { topic: self.topic.clone(), payload: self.payload.clone(), qos, retain }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.ledger.subtract(self.size());
    }
}

/// A message's place in a session.
#[derive(Debug)]
pub(super) struct Queued {
    pub message: Arc<Message>,
    pub qos: QoS,
    pub retain: bool,
}

impl Queued {
    pub(super) fn new(message: &Arc<Message>, qos: QoS, retain: bool) -> Queued {
        message.ledger.add(PLACE);
        Queued { message: message.clone(), qos, retain }
    }

    /// Bytes it counts for against its session's limit, shared or not.
    pub(super) fn size(&self) -> usize {
        PLACE + self.message.size()
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.message.ledger.subtract(PLACE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_once_and_as_long_as_it_waits_anywhere() {
        let ledger = Ledger::default();
        let message = Message::new("a/b", &Bytes::from_static(b"12345"), &ledger);
        let size = message.size();
        assert!(ledger.bytes() == size && size > 8);
        let places = [1, 2].map(|_| Queued::new(&message, QoS::AtLeastOnce, false));
        assert_eq!(ledger.bytes(), size + 2 * PLACE);
        drop(message);
        let [first, second] = places;
        drop(first);
        assert_eq!(ledger.bytes(), size + PLACE);
        drop(second);
        assert_eq!(ledger.bytes(), 0);
    }
}
