//! Where the objects of a node come from. A session registers the set of its node with every source; a source fills it and tells it
//! what changes.

use std::collections::HashMap;
use std::sync::Arc;

use message::ObjectKey;

use super::NodeSet;

/// One that knows objects which nodes should have: pods and what they refer to, devices and their models.
pub trait Source: Send + Sync {
    /// Fills the set of a new session and keeps it filled until [`unsubscribe`](Source::unsubscribe) with the same epoch.
    fn subscribe(&self, node: &str, epoch: u64, set: &NodeSet);

    fn unsubscribe(&self, node: &str, epoch: u64);

    /// The mark of an object as this source saw it last; `None` for what it does not know.
    fn mark_of(&self, key: &ObjectKey) -> Option<u64>;

    /// True if a node has a use for the object and its text is not here yet.
    fn is_missing(&self, key: &ObjectKey) -> bool {
        let _ = key;
        false
    }

    /// The text of an object is to be sent to `node` and is not in memory: it is told once more when it is.
    fn want(&self, node: &str, key: &ObjectKey) {
        let _ = (node, key);
    }

    /// True if `node` has the object, or is to have it.
    fn is_wanted(&self, node: &str, key: &ObjectKey) -> bool {
        let _ = (node, key);
        false
    }

    /// True if `node` cannot do without the object.
    fn is_needed(&self, node: &str, key: &ObjectKey) -> bool {
        let _ = (node, key);
        false
    }
}

/// All sources; a set hears them in this order.
#[derive(Clone)]
pub struct Sources(Arc<[Arc<dyn Source>]>);

impl Sources {
    pub fn new(sources: Vec<Arc<dyn Source>>) -> Sources {
        Sources(sources.into())
    }

    pub fn subscribe(&self, node: &str, epoch: u64, set: &NodeSet) {
        self.0.iter().for_each(|source| source.subscribe(node, epoch, set));
    }

    pub fn unsubscribe(&self, node: &str, epoch: u64) {
        self.0.iter().for_each(|source| source.unsubscribe(node, epoch));
    }

    /// The mark of an object as a source saw it last.
    pub fn mark_of(&self, key: &ObjectKey) -> Option<u64> {
        self.0.iter().find_map(|source| source.mark_of(key))
    }

    /// True if the text of an object that a node has a use for is not here yet.
    pub fn is_missing(&self, key: &ObjectKey) -> bool {
        self.0.iter().any(|source| source.is_missing(key))
    }

    /// The text of an object is to be sent to `node` and is not in memory: it is told once more when it is.
    pub fn want(&self, node: &str, key: &ObjectKey) {
        self.0.iter().for_each(|source| source.want(node, key));
    }

    /// True if `node` has the object, or is to have it.
    pub fn is_wanted(&self, node: &str, key: &ObjectKey) -> bool {
        self.0.iter().any(|source| source.is_wanted(node, key))
    }

    /// True if `node` cannot do without the object.
    pub fn is_needed(&self, node: &str, key: &ObjectKey) -> bool {
        self.0.iter().any(|source| source.is_needed(node, key))
    }
}

/// The sets of connected nodes, as a source keeps them.
#[derive(Default)]
pub struct Sets(HashMap<String, (u64, NodeSet)>);

impl Sets {
    /// A newer session of a node takes the place of the older one.
    pub fn insert(&mut self, node: &str, epoch: u64, set: &NodeSet) {
        self.0.insert(node.to_owned(), (epoch, set.clone()));
    }

    /// Removes the set of this session; that of another session of the node stays.
    pub fn remove(&mut self, node: &str, epoch: u64) {
        if self.0.get(node).is_some_and(|(current, _)| *current == epoch) {
            self.0.remove(node);
        }
    }

    /// The set of `node`, if it is connected.
    pub fn get(&self, node: &str) -> Option<&NodeSet> {
        self.0.get(node).map(|(_, set)| set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_ends_late_does_not_take_the_set_of_its_successor() {
        let mut sets = Sets::default();
        sets.insert("e1", 1, &NodeSet::default());
        sets.insert("e1", 2, &NodeSet::default());
        sets.remove("e1", 1);
        assert!(sets.get("e1").is_some());
        sets.remove("e1", 2);
        assert!(sets.get("e1").is_none());
    }

    #[test]
    fn the_first_source_that_knows_an_object_says_what_it_is() {
        struct Knows(&'static str, u64);
        impl Source for Knows {
            fn subscribe(&self, _: &str, _: u64, _: &NodeSet) {}
            fn unsubscribe(&self, _: &str, _: u64) {}
            fn mark_of(&self, key: &ObjectKey) -> Option<u64> {
                (key.name == self.0).then_some(self.1)
            }
        }
        let sources =
            Sources::new(vec![Arc::new(Knows("a", 1)), Arc::new(Knows("b", 2)), Arc::new(Knows("a", 3))]);
        let key = |name| ObjectKey::new(Some("d"), message::ObjectKind::ConfigMap, name);
        assert_eq!(["a", "b", "c"].map(|name| sources.mark_of(&key(name))), [Some(1), Some(2), None]);
        assert!(!sources.is_missing(&key("a")) && !sources.is_needed("e1", &key("a")));
    }
}
