//! Which devices a node has, and which nodes use a model: so that a node or a model costs what belongs to it, however
//! many devices the cluster has. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use message::ObjectKey;

#[derive(Debug, Default)]
pub(super) struct Index {
    /// Devices of each node.
    devices: HashMap<String, HashSet<ObjectKey>>,
    /// Of each model, how many devices of each node name it.
    users: HashMap<ObjectKey, BTreeMap<String, usize>>,
}

/// Where a device belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct IndexedDevice<'a> {
    pub device: &'a ObjectKey,
    /// Empty if it has no node.
    pub node: &'a str,
    pub model: Option<&'a ObjectKey>,
}

impl Index {
    /// A device that is not in the index.
    pub(super) fn add(&mut self, entry: IndexedDevice<'_>) {
        if entry.node.is_empty() {
            return;
        }
        self.devices.entry(entry.node.to_owned()).or_default().insert(entry.device.clone());
        if let Some(model) = entry.model {
            let nodes = self.users.entry(model.clone()).or_default();
            *nodes.entry(entry.node.to_owned()).or_default() += 1;
        }
    }

    /// A device that was added as it is given here.
    pub(super) fn remove(&mut self, entry: IndexedDevice<'_>) {
        if let Some(devices) = self.devices.get_mut(entry.node)
            && devices.remove(entry.device)
            && devices.is_empty()
        {
            self.devices.remove(entry.node);
        }
        let Some(model) = entry.model else { return };
        let Some(nodes) = self.users.get_mut(model) else { return };
        if let Some(count) = nodes.get_mut(entry.node) {
            *count -= 1;
            if *count == 0 {
                nodes.remove(entry.node);
            }
        }
        if nodes.is_empty() {
            self.users.remove(model);
        }
    }

    pub(super) fn devices_of(&self, node: &str) -> impl Iterator<Item = &ObjectKey> {
        self.devices.get(node).into_iter().flatten()
    }

    /// Nodes with devices of `model`, sorted.
    pub(super) fn nodes_using(&self, model: &ObjectKey) -> impl Iterator<Item = &String> {
        self.users.get(model).into_iter().flat_map(BTreeMap::keys)
    }

    /// True if a device of `node` names `model`.
    pub(super) fn uses(&self, node: &str, model: &ObjectKey) -> bool {
        self.users.get(model).is_some_and(|nodes| nodes.contains_key(node))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.devices.is_empty() && self.users.is_empty()
    }
}
