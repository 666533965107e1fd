//! The last retained message of each topic, bounded in number and bytes.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::{Publish, filter};

#[derive(Default)]
pub(super) struct Retained {
    messages: BTreeMap<String, Publish>,
    bytes: usize,
}

impl Retained {
    /// Keeps `publish` in place of the topic's last one; an empty payload only forgets that. False if it does not fit.
    pub fn set(&mut self, publish: &Publish, max_messages: usize, max_bytes: usize) -> bool {
        if let Some(old) = self.messages.remove(&publish.topic) {
            self.bytes -= old.size();
        }
        if publish.payload.is_empty() {
            return true;
        }
        if self.messages.len() >= max_messages || self.bytes + publish.size() > max_bytes {
            return false;
        }
        self.bytes += publish.size();
        self.messages.insert(publish.topic.clone(), publish.clone());
        true
    }

    /// Looks only at topics that begin like the filter: one without wildcards is looked up.
    pub fn matching(&self, wanted: &str) -> Vec<Publish> {
        let literal = wanted.split(['+', '#']).next().unwrap_or_default();
        // "a/#" includes "a" itself.
        let start = literal.strip_suffix('/').filter(|_| literal != wanted).unwrap_or(literal);
        let range = self.messages.range::<str, _>((Bound::Included(start), Bound::Unbounded));
        let alike = range.map(|(_, kept)| kept).take_while(|kept| match literal == wanted {
            true => kept.topic == wanted,
            false => kept.topic.starts_with(start),
        });
        alike.filter(|kept| filter::matches(wanted, &kept.topic)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QoS;

    fn message(topic: &str, payload: &'static str) -> Publish {
        Publish::new(topic, payload, QoS::AtMostOnce)
    }

    #[test]
    fn the_last_message_is_kept_until_an_empty_one() {
        let mut retained = Retained::default();
        assert!(retained.set(&message("a/b", "1"), 2, 100));
        assert!(retained.set(&message("a/b", "2"), 2, 100));
        assert_eq!(retained.matching("a/+"), [message("a/b", "2")]);
        assert!(retained.set(&message("a/b", ""), 2, 100));
        assert!(retained.matching("#").is_empty());
        assert_eq!(retained.bytes, 0);
    }

    #[test]
    fn a_filter_finds_what_it_matches_and_nothing_else() {
        let mut retained = Retained::default();
        let topics = ["$sys/x", "/a", "a", "a!", "a/", "a/b", "a/b/c", "ab", "b/b"];
        for topic in topics {
            assert!(retained.set(&message(topic, "1"), 100, 1000));
        }
        for wanted in [
            "#", "+", "+/b", "/#", "/+", "a", "a/", "a/#", "a/+", "a/+/c", "a/b", "a/b/#", "b/+", "c",
            "$sys/#",
        ] {
            let found: Vec<String> = retained.matching(wanted).into_iter().map(|kept| kept.topic).collect();
            let all: Vec<&str> = topics.into_iter().filter(|topic| filter::matches(wanted, topic)).collect();
            assert_eq!(found, all, "{wanted}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut retained = Retained::default();
        assert!(retained.set(&message("a", "1"), 1, 4));
        assert!(!retained.set(&message("b", "1"), 1, 4));
        assert!(!retained.set(&message("a", "12345"), 1, 4));
        assert!(retained.matching("#").is_empty(), "an old value would be a lie");
    }
}
