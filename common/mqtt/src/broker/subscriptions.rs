//! What one session has subscribed. Filters without wildcards are looked up, so that a client with many of them costs
//! no publication more than one with few. Pure.

use std::collections::BTreeMap;

use crate::{QoS, filter};

#[derive(Default)]
pub(super) struct Subscriptions {
    topics: BTreeMap<String, QoS>,
    patterns: BTreeMap<String, QoS>,
    bytes: usize,
}

/// What a subscription costs besides its text, in bytes.
const COST: usize = 64;
/// The same for one with wildcards, which also takes time of every publication.
const PATTERN_COST: usize = 256;

fn cost(wanted: &str) -> usize {
    wanted.len() + if filter::is_topic(wanted) { COST } else { PATTERN_COST }
}

impl Subscriptions {
    fn of(&mut self, wanted: &str) -> &mut BTreeMap<String, QoS> {
        if filter::is_topic(wanted) { &mut self.topics } else { &mut self.patterns }
    }

    /// Adds a subscription or changes its QoS. False if there would be more than `max`, or than `bytes` more.
    pub(super) fn add(&mut self, wanted: &str, qos: QoS, max: usize, bytes: usize) -> bool {
        let cost = cost(wanted);
        let full = self.topics.len() + self.patterns.len() >= max || cost > bytes;
        let place = self.of(wanted);
        let is_new = !place.contains_key(wanted);
        if full && is_new {
            return false;
        }
        place.insert(wanted.to_owned(), qos);
        if is_new {
            self.bytes += cost;
        }
        true
    }

    pub(super) fn remove(&mut self, wanted: &str) {
        if self.of(wanted).remove(wanted).is_some() {
            self.bytes -= cost(wanted);
        }
    }

    /// What all of them cost.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The best QoS among the subscriptions that match.
    pub(super) fn wanted(&self, topic: &str) -> Option<QoS> {
        let patterns = self.patterns.iter().filter(|(wanted, _)| filter::matches(wanted, topic));
        self.topics
            .get(topic)
            .into_iter()
            .chain(patterns.map(|(_, qos)| qos))
            .copied()
            .max_by_key(|qos| *qos as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_match_counts_and_there_are_no_more_than_allowed() {
        let mut subscriptions = Subscriptions::default();
        assert!(subscriptions.add("a/b", QoS::AtMostOnce, 2, 400));
        assert!(subscriptions.add("a/+", QoS::AtLeastOnce, 2, 400));
        assert!(!subscriptions.add("c", QoS::AtMostOnce, 2, 400));
        assert!(subscriptions.add("a/b", QoS::ExactlyOnce, 2, 400), "only its QoS changes");
        assert_eq!(subscriptions.wanted("a/b"), Some(QoS::ExactlyOnce));
        assert_eq!(subscriptions.wanted("a/c"), Some(QoS::AtLeastOnce));
        assert_eq!(subscriptions.wanted("c"), None);
        subscriptions.remove("a/b");
        assert_eq!(subscriptions.wanted("a/b"), Some(QoS::AtLeastOnce));
        subscriptions.remove("a/+");
        assert_eq!(subscriptions.wanted("a/b"), None);
        assert!(!subscriptions.add("a long filter", QoS::AtMostOnce, 2, 70));
        subscriptions.remove("a/b");
        assert_eq!(subscriptions.bytes(), 0);
    }
}
