//! The last retained message of each topic, bounded in number and bytes.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::kept::Message;
use crate::{QoS, filter};

/// A topic's last message, and the quality it came with.
type Last = (Arc<Message>, QoS);

#[derive(Default)]
pub(super) struct Retained {
    messages: BTreeMap<String, Last>,
    bytes: usize,
}

/// Bytes a message takes here: its topic is there twice.
fn cost(message: &Message) -> usize {
    message.size() + message.topic.len()
}

impl Retained {
    /// Keeps `message` in place of the topic's last one; an empty payload only forgets that. False if it does not fit.
    pub(super) fn set(
        &mut self,
        message: &Arc<Message>,
        qos: QoS,
        max_messages: usize,
        max_bytes: usize,
    ) -> bool {
        if let Some((old, _)) = self.messages.remove(&message.topic) {
            self.bytes -= cost(&old);
        }
        if message.payload.is_empty() {
            return true;
        }
        if self.messages.len() >= max_messages || self.bytes + cost(message) > max_bytes {
            return false;
        }
        self.bytes += cost(message);
        self.messages.insert(message.topic.clone(), (message.clone(), qos));
        true
    }

    /// Looks only at topics that begin like the filter: one without wildcards is looked up.
    pub(super) fn matching(&self, wanted: &str) -> Vec<Last> {
        let literal = wanted.split(['+', '#']).next().unwrap_or_default();
        // "a/#" includes "a" itself.
        let start = literal.strip_suffix('/').filter(|_| literal != wanted).unwrap_or(literal);
        let range = self.messages.range::<str, _>((Bound::Included(start), Bound::Unbounded));
        let alike = range.map(|(_, kept)| kept).take_while(|(kept, _)| match literal == wanted {
            true => kept.topic == wanted,
            false => kept.topic.starts_with(start),
        });
        alike.filter(|(kept, _)| filter::matches(wanted, &kept.topic)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::kept::Ledger;
    use super::*;
    use bytes::Bytes;

    impl Retained {
        /// Limited in number only.
        fn keep(&mut self, topic: &str, payload: &'static str) -> bool {
            let message = Message::new(topic, &Bytes::from_static(payload.as_bytes()), &Ledger::default());
            self.set(&message, QoS::AtMostOnce, 10, usize::MAX)
        }

        fn found(&self, wanted: &str) -> Vec<(String, Bytes)> {
            let found = self.matching(wanted).into_iter();
            found.map(|(kept, _)| (kept.topic.clone(), kept.payload.clone())).collect()
        }
    }

    #[test]
    fn the_last_message_is_kept_until_an_empty_one() {
        let mut retained = Retained::default();
        assert!(retained.keep("a/b", "1") && retained.keep("a/b", "2"));
        assert_eq!(retained.found("a/+"), [("a/b".to_owned(), Bytes::from_static(b"2"))]);
        assert!(retained.keep("a/b", ""));
        assert!(retained.matching("#").is_empty());
        assert_eq!(retained.bytes, 0);
    }

    #[test]
    fn a_filter_finds_what_it_matches_and_nothing_else() {
        let mut retained = Retained::default();
        let topics = ["$sys/x", "/a", "a", "a!", "a/", "a/b", "a/b/c", "ab", "b/b"];
        for topic in topics {
            assert!(retained.keep(topic, "1"));
        }
        for wanted in [
            "#", "+", "+/b", "/#", "/+", "a", "a/", "a/#", "a/+", "a/+/c", "a/b", "a/b/#", "b/+", "c",
            "$sys/#",
        ] {
            let found: Vec<String> = retained.found(wanted).into_iter().map(|(topic, _)| topic).collect();
            let all: Vec<&str> = topics.into_iter().filter(|topic| filter::matches(wanted, topic)).collect();
            assert_eq!(found, all, "{wanted}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut retained = Retained::default();
        let ledger = Ledger::default();
        let message = |topic: &str, payload| Message::new(topic, &Bytes::from_static(payload), &ledger);
        let mut set = |message: Arc<Message>| retained.set(&message, QoS::AtMostOnce, 1, 300);
        assert!(set(message("a", b"1")));
        assert!(!set(message("b", b"1")));
        assert!(!set(message("a", &[0; 300])));
        assert!(retained.matching("#").is_empty(), "an old value would be a lie");
    }
}
