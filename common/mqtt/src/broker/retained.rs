//! The last retained message of each topic, bounded in number and bytes.

use std::collections::BTreeMap;

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

    pub fn matching(&self, wanted: &str) -> Vec<Publish> {
        self.messages.values().filter(|kept| filter::matches(wanted, &kept.topic)).cloned().collect()
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
    fn what_does_not_fit_is_refused() {
        let mut retained = Retained::default();
        assert!(retained.set(&message("a", "1"), 1, 4));
        assert!(!retained.set(&message("b", "1"), 1, 4));
        assert!(!retained.set(&message("a", "12345"), 1, 4));
        assert!(retained.matching("#").is_empty(), "an old value would be a lie");
    }
}
