//! Devices, their models and their nodes. Pure.
//!
//! Objects are read ([`KnownDevice::read`], [`read_model`]) before they are taken in, so that whoever holds the inventory in a
//! lock holds it for neither parsing nor hashing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use message::{Json, MembershipEntry, ObjectKey, ObjectKind, ResourceVersion};

use super::index::{Index, IndexedDevice};
use super::outline::Outline;
use crate::desired::{Change, Wanted};
use crate::kubernetes::{Meta, identity};

/// What a node must hear.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Notification {
    Change(Change),
    Joined(MembershipEntry),
    Left(MembershipEntry),
}

/// A device as it was seen last.
#[derive(Debug)]
pub(super) struct KnownDevice {
    pub wanted: Wanted,
    pub member: MembershipEntry,
    /// Names of its properties.
    pub properties: Vec<String>,
    node: String,
    model: Option<ObjectKey>,
    /// Hash of its specification.
    spec: u64,
}

impl KnownDevice {
    /// One that cannot be read belongs to no node.
    pub(super) fn read(meta: &Meta, object: Json) -> KnownDevice {
        let outline = Outline::read(&object).unwrap_or_default();
        let namespace = meta.namespace.as_deref();
        KnownDevice {
            wanted: wanted(ObjectKind::Device, meta, object),
            member: MembershipEntry {
                id: format!("{}/{}", namespace.unwrap_or_default(), meta.name),
                name: meta.name.clone(),
                description: outline.description,
            },
            properties: outline.properties,
            node: outline.node,
            model: outline.model.map(|name| ObjectKey::new(namespace, ObjectKind::DeviceModel, &name)),
            spec: outline.spec,
        }
    }

    /// The node it belongs to; empty if none.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    fn entry(&self) -> IndexedDevice<'_> {
        IndexedDevice { device: &self.wanted.key, node: self.node(), model: self.model.as_ref() }
    }
}

/// A model as nodes get it.
pub(super) fn read_model(meta: &Meta, object: Json) -> Wanted {
    wanted(ObjectKind::DeviceModel, meta, object)
}

fn wanted(kind: ObjectKind, meta: &Meta, object: Json) -> Wanted {
    Wanted {
        key: ObjectKey::new(meta.namespace.as_deref(), kind, &meta.name),
        uid: meta.uid.clone(),
        version: ResourceVersion(meta.resource_version.clone()),
        mark: native::mark(&object),
        object: object.into(),
    }
}

#[derive(Debug, Default)]
pub(super) struct Inventory {
    devices: HashMap<ObjectKey, Arc<KnownDevice>>,
    models: HashMap<ObjectKey, Wanted>,
    index: Index,
}

impl Inventory {
    /// The mark of a device or model as it was seen last.
    pub(super) fn mark_of(&self, key: &ObjectKey) -> Option<u64> {
        let device = self.devices.get(key).map(|known| &known.wanted);
        device.or_else(|| self.models.get(key)).map(|wanted| wanted.mark)
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<KnownDevice>> {
        self.devices.get(&ObjectKey::new(Some(namespace), ObjectKind::Device, name))
    }

    /// Models and devices of `node`, models first.
    pub(super) fn set_of(&self, node: &str) -> Vec<Wanted> {
        let models: HashSet<&ObjectKey> =
            self.devices_of(node).filter_map(|known| known.model.as_ref()).collect();
        let models = models.into_iter().filter_map(|key| self.models.get(key));
        models.chain(self.devices_of(node).map(|known| &known.wanted)).cloned().collect()
    }

    /// The list of the devices of `node`.
    pub(super) fn members_of(&self, node: &str) -> Vec<MembershipEntry> {
        self.devices_of(node).map(|known| known.member.clone()).collect()
    }

    fn devices_of(&self, node: &str) -> impl Iterator<Item = &KnownDevice> {
        self.index.devices_of(node).filter_map(|key| self.devices.get(key).map(Arc::as_ref))
    }

    /// A device was created or changed. `new` in the result: it was not there before.
    pub(super) fn put_device(&mut self, known: Arc<KnownDevice>) -> (Vec<(String, Notification)>, bool) {
        let previous = self.devices.insert(known.wanted.key.clone(), known.clone());
        if let Some(old) = &previous {
            self.index.remove(old.entry());
        }
        self.index.add(known.entry());
        let Some(old) = previous else { return (self.join(&known, true), true) };
        let replaced = old.wanted.uid != known.wanted.uid;
        let told = if replaced || old.node() != known.node() {
            let mut told = self.leave(&old, replaced);
            told.extend(self.join(&known, true));
            told
        } else if old.spec == known.spec {
            // Labels, annotations and status are not the edge's business.
            Vec::new()
        } else {
            let mut told = self.join(&known, false);
            told.extend(self.model_left(&old));
            told
        };
        (told, false)
    }

    pub(super) fn device_gone(&mut self, meta: &Meta) -> Vec<(String, Notification)> {
        let key = ObjectKey::new(meta.namespace.as_deref(), ObjectKind::Device, &meta.name);
        if self.devices.get(&key).is_none_or(|known| known.wanted.uid != meta.uid) {
            return Vec::new();
        }
        let Some(old) = self.devices.remove(&key) else { return Vec::new() };
        self.index.remove(old.entry());
        self.leave(&old, true)
    }

    /// A model was created or changed: every node with a device of it hears (KubeEdge sends nothing here).
    pub(super) fn put_model(&mut self, wanted: Wanted) -> Vec<(String, Notification)> {
        self.models.insert(wanted.key.clone(), wanted.clone());
        self.users_hear(&wanted.key, &Notification::Change(Change::Put(wanted.clone())))
    }

    pub(super) fn model_gone(&mut self, meta: &Meta, object: Json) -> Vec<(String, Notification)> {
        let key = ObjectKey::new(meta.namespace.as_deref(), ObjectKind::DeviceModel, &meta.name);
        if self.models.get(&key).is_none_or(|model| model.uid != meta.uid) {
            return Vec::new();
        }
        self.models.remove(&key);
        let change = Change::Remove { key: key.clone(), uid: meta.uid.clone(), object, may_return: false };
        self.users_hear(&key, &Notification::Change(change))
    }

    fn users_hear(&self, model: &ObjectKey, told: &Notification) -> Vec<(String, Notification)> {
        self.index.nodes_using(model).map(|node| (node.clone(), told.clone())).collect()
    }

    /// What the node of a device must hear: the model before the device.
    fn join(&self, known: &KnownDevice, member: bool) -> Vec<(String, Notification)> {
        if known.node().is_empty() {
            return Vec::new();
        }
        let joined = member.then(|| Notification::Joined(known.member.clone()));
        let model = known.model.as_ref().and_then(|key| self.models.get(key)).cloned();
        let objects = model.into_iter().chain([known.wanted.clone()]);
        let told = joined.into_iter().chain(objects.map(|wanted| Notification::Change(Change::Put(wanted))));
        told.map(|told| (known.node().to_owned(), told)).collect()
    }

    /// What the node of a device that left must hear; the index is without it.
    fn leave(&self, old: &KnownDevice, gone: bool) -> Vec<(String, Notification)> {
        if old.node().is_empty() {
            return Vec::new();
        }
        let told = [Notification::Left(old.member.clone()), removal(&old.wanted, !gone)];
        let told = told.into_iter().map(|told| (old.node().to_owned(), told));
        told.chain(self.model_left(old)).collect()
    }

    /// A model goes with the last device of it on a node.
    fn model_left(&self, old: &KnownDevice) -> Option<(String, Notification)> {
        let key = old.model.as_ref().filter(|key| !self.index.uses(old.node(), key))?;
        let model = self.models.get(key).filter(|_| !old.node().is_empty())?;
        Some((old.node().to_owned(), removal(model, true)))
    }
}

/// `may_return`: the object still exists, only this node has no use for it now.
fn removal(wanted: &Wanted, may_return: bool) -> Notification {
    let (key, uid) = (wanted.key.clone(), wanted.uid.clone());
    let object = wanted.object.here().unwrap_or_else(|| identity(&key, &uid));
    Notification::Change(Change::Remove { key, uid, object, may_return })
}

#[cfg(test)]
#[path = "inventory_tests.rs"]
mod tests;
