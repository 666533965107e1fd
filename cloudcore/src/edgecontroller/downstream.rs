//! Watches -> placement graph -> desired sets of connected nodes.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daemon::memory::HeapTrimmer;
use message::{Json, ObjectKey, ObjectKind, Origin};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::autonomy::Autonomy;
use crate::desired::{Arrived, Change, NodeSet, Placement, Sets, Source};
use crate::edgelink::EdgeLinks;
use crate::kubernetes::{Follower, Meta, Resource, WatchEvent, identity};
use crate::refused::Deleted;

/// Rooms that hear of nodes and pods, so that these are watched once.
#[derive(Clone, Default)]
pub struct Observers {
    pub autonomy: Autonomy,
    pub links: EdgeLinks,
}

impl Observers {
    fn saw_node(&self, meta: &Meta, object: &Json) {
        self.autonomy.saw_node(meta, object);
        self.links.saw_node(meta, object);
    }

    fn node_gone(&self, meta: &Meta) {
        self.autonomy.node_gone(meta);
        self.links.node_gone(meta);
    }
}

/// What this room watches. Config maps and secrets come after the pods that refer to them, so that the texts that nodes have a
/// use for are kept as they come.
pub const WATCHED: &[Resource] = &[Resource::Nodes, Resource::Pods, Resource::ConfigMaps, Resource::Secrets];

/// What each resource comes after.
pub fn comes_after(resource: Resource) -> Option<Resource> {
    matches!(resource, Resource::ConfigMaps | Resource::Secrets).then_some(Resource::Pods)
}

/// True of kinds whose texts are kept only while they are recent.
fn is_text(kind: &ObjectKind) -> bool {
    matches!(kind, ObjectKind::ConfigMap | ObjectKind::Secret)
}

/// Graph and sessions under one lock, so that a subscription misses nothing between its snapshot and the next change.
#[derive(Default)]
struct State {
    placement: Placement,
    sessions: Sets,
}

/// The room and its handle in one: `run` is its only writer.
#[derive(Clone, Default)]
pub struct Downstream {
    state: Arc<Mutex<State>>,
    /// A text may have become missing.
    missing: Arc<Notify>,
}

impl Downstream {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read<T>(&self, work: impl FnOnce(&Placement) -> T) -> T {
        work(&self.lock().placement)
    }

    /// Pods of `node` that show one from a file.
    pub fn mirrors_of(&self, node: &str) -> usize {
        self.read(|placement| placement.mirrors_of(node))
    }

    /// Tells a connected node that a pod it speaks of does not exist.
    pub fn tell_gone(&self, node: &str, namespace: &str, name: &str, uid: &str) {
        let key = ObjectKey::new(Some(namespace), ObjectKind::Pod, name);
        let object = identity(&key, uid);
        let origin = Origin::EdgeController;
        let uid = (!uid.is_empty()).then(|| uid.to_owned());
        let gone = message::Downstream::Remove { key, origin, uid, object };
        if let Some(set) = self.lock().sessions.get(node) {
            set.notice(gone);
        }
    }

    /// Takes in what the watches of [`WATCHED`] see, until stopped. `deleted` hears of nodes that were deleted; a node that
    /// is only missing in a list may be in a state of the API server that was restored. `observers` hear of nodes and pods, `trimmer` hears of texts that may have
    /// left memory.
    pub async fn run(
        self,
        mut follower: Follower,
        deleted: Option<Deleted>,
        observers: Observers,
        trimmer: HeapTrimmer,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        while let Some((resource, event)) = follower.next(&stop).await {
            let _busy = follower.busy();
            let Some(kind) = resource.kind() else { continue };
            if let (ObjectKind::Node, WatchEvent::Gone { meta, told: true, .. }, Some(deleted)) =
                (&kind, &event, &deleted)
            {
                deleted.add(&meta.name, &meta.uid);
            }
            match (&kind, &event) {
                (ObjectKind::Node, WatchEvent::Put { meta, object }) => observers.saw_node(meta, object),
                (ObjectKind::Node, WatchEvent::Gone { meta, .. }) => observers.node_gone(meta),
                (ObjectKind::Pod, WatchEvent::Put { meta, object }) => {
                    observers.autonomy.saw_pod(meta, object)
                }
                (ObjectKind::Pod, WatchEvent::Gone { meta, .. }) => observers.autonomy.pod_gone(meta),
                _ => {}
            }
            match event {
                WatchEvent::Put { meta, object } => {
                    if is_text(&kind) {
                        trimmer.note();
                    }
                    let arrived = Arrived::read(kind, &meta, object);
                    self.change(|placement| placement.put(arrived));
                }
                WatchEvent::Gone { meta, object, .. } => {
                    self.change(|placement| placement.gone(kind, &meta, object));
                }
                WatchEvent::Synced => {}
            }
        }
        Ok(())
    }

    /// Changes the graph and tells connected nodes what follows.
    pub(super) fn change(&self, work: impl FnOnce(&mut Placement) -> Vec<(String, Change)>) {
        let mut state = self.lock();
        for (node, change) in work(&mut state.placement) {
            if let Some(set) = state.sessions.get(&node) {
                change.apply_to(set);
            }
        }
        if state.placement.is_any_missing() {
            self.missing.notify_one();
        }
    }

    /// Texts that nodes have a use for and that are neither here nor asked for, as many as may be; waits until there are some.
    pub(super) async fn missing(&self, asked: &HashSet<ObjectKey>, most: usize) -> Vec<ObjectKey> {
        loop {
            let missing: Vec<ObjectKey> = self.read(|placement| {
                placement.missing().filter(|key| !asked.contains(*key)).take(most).cloned().collect()
            });
            if !missing.is_empty() {
                return missing;
            }
            self.missing.notified().await;
        }
    }
}

impl Source for Downstream {
    fn subscribe(&self, node: &str, epoch: u64, set: &NodeSet) {
        let mut state = self.lock();
        let snapshot = state.placement.set_of(node);
        state.sessions.insert(node, epoch, set);
        set.with(|desired| snapshot.into_iter().for_each(|wanted| desired.put(wanted)));
    }

    fn unsubscribe(&self, node: &str, epoch: u64) {
        self.lock().sessions.remove(node, epoch);
    }

    fn mark_of(&self, key: &ObjectKey) -> Option<u64> {
        self.read(|placement| placement.mark_of(key))
    }

    fn is_missing(&self, key: &ObjectKey) -> bool {
        self.read(|placement| placement.is_missing(key))
    }

    fn want(&self, node: &str, key: &ObjectKey) {
        self.change(|placement| placement.want(node, key));
    }

    fn is_wanted(&self, node: &str, key: &ObjectKey) -> bool {
        self.read(|placement| placement.set_of(node)).iter().any(|wanted| wanted.key == *key)
    }

    /// A pod of the node cannot start without the config map or secret.
    fn is_needed(&self, node: &str, key: &ObjectKey) -> bool {
        self.read(|placement| placement.is_needed(node, key))
    }
}
