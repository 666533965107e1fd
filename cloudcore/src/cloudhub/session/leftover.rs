//! Objects a node holds and nobody wants: gone while it was away, or not known here yet.
//!
//! A replica whose watches lag behind must not take a new pod from its node. So nothing is removed before the API
//! server itself said that it is gone, or that no pod of this node is missing here.

use std::sync::Arc;
use std::time::Duration;

use message::{NodeName, ObjectKey, ObjectKind};
use serde_json::Value;

use super::Rooms;
use crate::desired::{Desired, NodeSet};
use crate::kubernetes::identity;

/// Pause before looking again while this replica's watches lag behind.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What the API server says of a leftover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftover {
    Gone,
    /// This replica has not seen it yet as it is: a pod of this node, or a newer state of something else.
    Unseen,
    /// It exists, but not for this node.
    Elsewhere,
    Unknown,
}

/// What follows from one look at all leftovers.
#[derive(Debug, Default)]
pub struct Decision {
    /// To be removed; true for what still exists and may be wanted again.
    pub remove: Vec<(ObjectKey, String, bool)>,
    /// Something is not known here that the API server knows: look again.
    pub behind: bool,
}

/// Decides what goes. A single thing unseen shows that this replica is behind, and then nothing goes that exists: a pod
/// that is not known here yet may need it.
pub fn judge(looked: Vec<(ObjectKey, String, Leftover)>) -> Decision {
    let lags = |found: Leftover| matches!(found, Leftover::Unseen | Leftover::Unknown);
    let behind = looked.iter().any(|(_, _, found)| lags(*found));
    let goes = |found| found == Leftover::Gone || (found == Leftover::Elsewhere && !behind);
    let remove = looked.into_iter().filter(|(_, _, found)| goes(*found));
    let remove = remove.map(|(key, uid, found)| (key, uid, found == Leftover::Elsewhere)).collect();
    Decision { remove, behind }
}

/// Removes leftovers from the node's set once it is sure.
pub(super) async fn settle(rooms: Arc<Rooms>, node: NodeName, set: NodeSet) {
    loop {
        let left = set.without_wake(|desired| desired.unclaimed());
        let mut looked = Vec::with_capacity(left.len());
        for (key, uid) in left {
            let found = look(&rooms, &node, &key, &uid).await;
            looked.push((key, uid, found));
        }
        let judgement = judge(looked);
        set.with(|desired| apply(judgement.remove, desired));
        if !judgement.behind {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Takes removals into the set, but those that a controller asked for meanwhile.
pub fn apply(remove: Vec<(ObjectKey, String, bool)>, desired: &mut Desired) {
    for (key, uid, may_return) in remove {
        if !desired.is_claimed(&uid) {
            let object = identity(&key, &uid);
            desired.remove(&key, &uid, object, may_return);
        }
    }
}

async fn look(rooms: &Rooms, node: &NodeName, key: &ObjectKey, uid: &str) -> Leftover {
    // A kind without a path was never sent by this version.
    let Some(path) = key.api_path() else { return Leftover::Gone };
    // A node has a use for it, and its text is on the way here.
    if rooms.sources.is_missing(key) {
        return Leftover::Unseen;
    }
    let object = match rooms.cluster.get(&path).await {
        Ok(object) => object,
        Err(status) if status.is_not_found() => return Leftover::Gone,
        Err(_) => return Leftover::Unknown,
    };
    let mark = native::mark(&object);
    let read = object.parse::<Value>().unwrap_or_default();
    if read["metadata"]["uid"] != uid {
        return Leftover::Gone;
    }
    let known = rooms.sources.mark_of(key);
    let place = read["spec"]["nodeName"].as_str().filter(|name| *name == node.as_str());
    classify(&key.kind, place.is_some(), known == Some(mark))
}

/// What an object that exists is to this replica. `here`: its own spec names the node. `known`: this replica has seen it
/// as it is.
pub fn classify(kind: &ObjectKind, here: bool, known: bool) -> Leftover {
    match kind {
        ObjectKind::Pod | ObjectKind::Device if here => Leftover::Unseen,
        // Pods of other nodes and pods that are not placed are not kept here.
        ObjectKind::Pod => Leftover::Elsewhere,
        // The node itself exists: its watch will tell.
        ObjectKind::Node => Leftover::Unknown,
        _ if known => Leftover::Elsewhere,
        _ => Leftover::Unseen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_lags_behind_takes_nothing_that_exists() {
        let looked = |founds: &[Leftover]| {
            let key = |n: usize| ObjectKey::new(Some("d"), ObjectKind::Secret, &n.to_string());
            founds.iter().enumerate().map(|(n, found)| (key(n), n.to_string(), *found)).collect::<Vec<_>>()
        };
        let sure = judge(looked(&[Leftover::Gone, Leftover::Elsewhere]));
        assert_eq!((sure.remove.len(), sure.behind), (2, false));
        let behind = judge(looked(&[Leftover::Elsewhere, Leftover::Unseen, Leftover::Gone]));
        assert_eq!((behind.remove.len(), behind.behind), (1, true));
        assert_eq!(behind.remove[0].1, "2");
    }
}
