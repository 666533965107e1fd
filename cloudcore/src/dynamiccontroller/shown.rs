//! What the watches of one node have shown it. Pure.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};

use message::ObjectKey;

/// Objects that all watches of a node may show it at once.
pub(super) const OBJECTS: usize = 5_000;

/// There is no room for another object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Objects by uid, with the watches that show them.
#[derive(Debug, Default)]
pub(super) struct Shown(HashMap<String, Object>);

#[derive(Debug)]
struct Object {
    key: ObjectKey,
    watches: BTreeSet<String>,
}

impl Shown {
    /// `watch` shows an object.
    pub(super) fn put(&mut self, watch: &str, uid: &str, key: &ObjectKey) -> Result<(), Full> {
        let is_full = self.0.len() >= OBJECTS;
        match self.0.entry(uid.to_owned()) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().watches.insert(watch.to_owned());
            }
            Entry::Vacant(_) if is_full => return Err(Full),
            Entry::Vacant(entry) => {
                entry.insert(Object { key: key.clone(), watches: BTreeSet::from([watch.to_owned()]) });
            }
        }
        Ok(())
    }

    /// `watch` no longer shows an object. True if no other watch does.
    pub(super) fn gone(&mut self, watch: &str, uid: &str) -> bool {
        let Some(object) = self.0.get_mut(uid) else { return false };
        let was_shown = object.watches.remove(watch);
        let is_last = object.watches.is_empty();
        if is_last {
            self.0.remove(uid);
        }
        was_shown && is_last
    }

    /// What `watch` showed and is not among `listed`, all that it shows now.
    pub(super) fn unlisted(&self, watch: &str, listed: &HashSet<String>) -> Vec<(ObjectKey, String)> {
        let missing =
            self.0.iter().filter(|(uid, object)| object.watches.contains(watch) && !listed.contains(*uid));
        missing.map(|(uid, object)| (object.key.clone(), uid.clone())).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets what other watches showed: nobody watches it.
    pub(super) fn keep(&mut self, mut is_watch: impl FnMut(&str) -> bool) {
        self.0.retain(|_, object| {
            object.watches.retain(|watch| is_watch(watch));
            !object.watches.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use message::ObjectKind;

    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(Some("d"), ObjectKind::ConfigMap, name)
    }

    #[test]
    fn an_object_goes_when_the_last_watch_that_shows_it_says_so() {
        let mut shown = Shown::default();
        for watch in ["one", "two"] {
            shown.put(watch, "u", &key("a")).unwrap();
        }
        assert!(!shown.gone("one", "u"));
        assert!(!shown.gone("three", "u"));
        assert!(shown.gone("two", "u"));
        assert!(!shown.gone("two", "u"));
    }

    #[test]
    fn what_a_new_list_does_not_have_is_missing_and_what_nobody_watches_is_forgotten() {
        let mut shown = Shown::default();
        shown.put("one", "u", &key("a")).unwrap();
        shown.put("one", "v", &key("b")).unwrap();
        shown.put("two", "w", &key("c")).unwrap();
        let listed = HashSet::from(["u".to_owned()]);
        assert_eq!(shown.unlisted("one", &listed), [(key("b"), "v".to_owned())]);
        shown.keep(|watch| watch == "two");
        assert!(shown.unlisted("one", &HashSet::new()).is_empty());
        assert_eq!(shown.unlisted("two", &HashSet::new()).len(), 1);
    }

    #[test]
    fn a_node_is_shown_so_many_objects_and_no_more() {
        let mut shown = Shown::default();
        for n in 0..OBJECTS {
            shown.put("one", &n.to_string(), &key("a")).unwrap();
        }
        assert_eq!(shown.put("one", "another", &key("a")), Err(Full));
        assert_eq!(shown.put("two", "0", &key("a")), Ok(()));
    }
}
