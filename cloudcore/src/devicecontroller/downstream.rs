//! Watches -> inventory -> desired sets and membership notices of connected nodes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use message::{Downstream, Json, Membership, MembershipEntry, ObjectKey};
use tokio_util::sync::CancellationToken;

use super::inventory::{Inventory, KnownDevice, Notification, read_model};
use super::missing::Missing;
use super::written::Written;
use crate::desired::{NodeSet, Sets, Source, Wanted};
use crate::kubernetes::{Follower, Meta, Resource, WatchEvent};

/// What this room watches; models first, so that a device finds its model.
pub const WATCHED: &[Resource] = &[Resource::DeviceModels, Resource::Devices];

#[derive(Default)]
struct State {
    inventory: Inventory,
    /// What the DeviceStatus of a device holds; only for devices that exist.
    written: HashMap<(String, String), Written>,
    sessions: Sets,
}

/// The room and its handle in one: `run` is its only writer.
#[derive(Clone, Default)]
pub struct Devices {
    /// Every report of a node is authorised under this lock: nobody parses, hashes or searches all devices while holding it.
    state: Arc<Mutex<State>>,
    /// Devices whose DeviceStatus nobody has seen.
    pub(super) missing: Missing,
}

/// What a watch saw, read before the lock is taken.
enum Input {
    Device(Arc<KnownDevice>),
    DeviceGone(Meta),
    Model(Wanted),
    ModelGone(Meta, Json),
}

impl Input {
    /// `None` for what changes nothing.
    fn read(resource: Resource, event: WatchEvent) -> Option<Input> {
        Some(match (resource, event) {
            (_, WatchEvent::Synced) => return None,
            (Resource::Devices, WatchEvent::Put { meta, object }) => {
                Input::Device(Arc::new(KnownDevice::read(&meta, object)))
            }
            (Resource::Devices, WatchEvent::Gone { meta, .. }) => Input::DeviceGone(meta),
            (_, WatchEvent::Put { meta, object }) => Input::Model(read_model(&meta, object)),
            (_, WatchEvent::Gone { meta, object, .. }) => Input::ModelGone(meta, object),
        })
    }
}

/// Identity of a device, as its DeviceStatus must name its owner.
#[derive(Clone, Debug)]
pub(super) struct DeviceRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub properties: Vec<String>,
}

impl Devices {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node a device belongs to.
    pub fn owner(&self, namespace: &str, name: &str) -> Option<String> {
        self.lock().inventory.get(namespace, name).map(|known| known.node().to_owned())
    }

    pub(super) fn device(&self, namespace: &str, name: &str) -> Option<DeviceRef> {
        let known = self.lock().inventory.get(namespace, name).cloned()?;
        Some(DeviceRef {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: known.wanted.uid.clone(),
            properties: known.properties.clone(),
        })
    }

    pub(super) fn written(&self, device: &DeviceRef) -> Option<Written> {
        self.lock().written.get(&(device.namespace.clone(), device.name.clone())).cloned()
    }

    pub(super) fn remember(&self, device: &DeviceRef, written: Written) {
        if written.exists() {
            self.missing.found(&device.namespace, &device.name);
        }
        let mut state = self.lock();
        if state.inventory.get(&device.namespace, &device.name).is_some() {
            state.written.insert((device.namespace.clone(), device.name.clone()), written);
        }
    }

    pub(super) fn forget(&self, device: &DeviceRef) {
        self.lock().written.remove(&(device.namespace.clone(), device.name.clone()));
    }

    /// The answer to an edge that asks for its devices.
    pub fn membership(&self, node: &str) -> Downstream {
        let members = self.lock().inventory.members_of(node);
        list(members)
    }

    /// Takes in what the watches of [`WATCHED`] see, until stopped. Asks the API server for nothing.
    pub async fn run(self, mut follower: Follower, stop: CancellationToken) -> Result<(), Infallible> {
        while let Some((resource, event)) = follower.next(&stop).await {
            let _busy = follower.busy();
            self.take_in(resource, event);
        }
        Ok(())
    }

    fn take_in(&self, resource: Resource, event: WatchEvent) {
        let Some(input) = Input::read(resource, event) else { return };
        let mut state = self.lock();
        let told = match input {
            Input::Device(known) => {
                let key = known.wanted.key.clone();
                let (told, new) = state.inventory.put_device(known);
                if new {
                    self.missing.add(key.namespace.unwrap_or_default(), key.name);
                }
                told
            }
            Input::DeviceGone(meta) => {
                let namespace = meta.namespace.clone().unwrap_or_default();
                self.missing.found(&namespace, &meta.name);
                state.written.remove(&(namespace, meta.name.clone()));
                state.inventory.device_gone(&meta)
            }
            Input::Model(wanted) => state.inventory.put_model(wanted),
            Input::ModelGone(meta, object) => state.inventory.model_gone(&meta, object),
        };
        for (node, told) in told {
            if let Some(set) = state.sessions.get(&node) {
                tell(set, told);
            }
        }
    }
}

impl Source for Devices {
    /// Sends the full list of the node's devices, too: an edge drops what is not in it.
    fn subscribe(&self, node: &str, epoch: u64, set: &NodeSet) {
        let mut state = self.lock();
        let snapshot = state.inventory.set_of(node);
        state.sessions.insert(node, epoch, set);
        set.notice(list(state.inventory.members_of(node)));
        set.with(|desired| snapshot.into_iter().for_each(|wanted| desired.put(wanted)));
    }

    fn unsubscribe(&self, node: &str, epoch: u64) {
        self.lock().sessions.remove(node, epoch);
    }

    fn mark_of(&self, key: &ObjectKey) -> Option<u64> {
        self.lock().inventory.mark_of(key)
    }

    fn is_wanted(&self, node: &str, key: &ObjectKey) -> bool {
        self.lock().inventory.set_of(node).iter().any(|wanted| wanted.key == *key)
    }
}

fn tell(set: &NodeSet, told: Notification) {
    match told {
        Notification::Change(change) => change.apply_to(set),
        Notification::Joined(entry) => set.notice(notice(Some(vec![entry]), None)),
        Notification::Left(entry) => set.notice(notice(None, Some(vec![entry]))),
    }
}

fn notice(added: Option<Vec<MembershipEntry>>, removed: Option<Vec<MembershipEntry>>) -> Downstream {
    Downstream::Membership(Membership {
        event_id: message::MessageId::random().0,
        timestamp: daemon::clock::unix_ms(),
        added_devices: added,
        removed_devices: removed,
        devices: None,
    })
}

fn list(members: Vec<MembershipEntry>) -> Downstream {
    Downstream::MembershipList(Membership {
        event_id: message::MessageId::random().0,
        timestamp: daemon::clock::unix_ms(),
        devices: Some(members),
        ..Membership::default()
    })
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
