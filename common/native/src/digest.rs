//! Marks and digests: how two ends find what they do not share without sending it.

use message::Json;
use serde_json::Value;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::frames::KindDigest;

/// Hash of what a node should react to: the object without its status, its version and its bookkeeping. Equal marks
/// need no sending. Never 0, which stands for "not known".
pub fn mark(object: &Json) -> u64 {
    let hash = match object.parse::<Value>() {
        Ok(mut value) => {
            if let Some(top) = value.as_object_mut() {
                top.remove("status");
                if let Some(metadata) = top.get_mut("metadata").and_then(Value::as_object_mut) {
                    for field in ["resourceVersion", "managedFields", "generation"] {
                        metadata.remove(field);
                    }
                }
            }
            // Maps are sorted, so the text is the same whatever order the server chose.
            xxh3_64(value.to_string().as_bytes())
        }
        Err(_) => xxh3_64(object.text().as_bytes()),
    };
    hash.max(1)
}

/// Digest of all objects of one kind that an end holds. Adding is commutative: order does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    pub count: u32,
    pub sum: u64,
}

impl Digest {
    pub fn add(&mut self, uid: &str, mark: u64) {
        let mut hash = Xxh3::new();
        hash.update(uid.as_bytes());
        hash.update(&mark.to_be_bytes());
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(hash.digest());
    }

    pub fn of_kind(self, kind: &str) -> KindDigest {
        KindDigest { kind: kind.to_owned(), count: self.count, sum: self.sum }
    }

    pub fn matches(self, theirs: &KindDigest) -> bool {
        self.count == theirs.count && self.sum == theirs.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::from_text(text.to_owned()).unwrap()
    }

    #[test]
    fn a_status_or_version_does_not_change_the_mark_and_a_label_does() {
        let plain = mark(&json(r#"{"metadata":{"name":"a","resourceVersion":"1"},"spec":{}}"#));
        let later = json(
            r#"{"spec":{},"metadata":{"resourceVersion":"2","name":"a","managedFields":[1]},"status":{"x":1}}"#,
        );
        assert_eq!(plain, mark(&later));
        let labelled = json(r#"{"metadata":{"name":"a","labels":{"x":"y"}},"spec":{}}"#);
        assert_ne!(plain, mark(&labelled));
    }

    #[test]
    fn digests_agree_in_any_order_and_differ_when_one_mark_does() {
        let digest = |entries: &[(&str, u64)]| {
            let mut digest = Digest::default();
            entries.iter().for_each(|(uid, mark)| digest.add(uid, *mark));
            digest
        };
        assert_eq!(digest(&[("a", 1), ("b", 2)]), digest(&[("b", 2), ("a", 1)]));
        assert_ne!(digest(&[("a", 1), ("b", 2)]), digest(&[("a", 1), ("b", 3)]));
        assert_ne!(digest(&[("a", 1)]), digest(&[]));
    }
}
