//! Objects a node holds and nobody wants: gone while it was away, or not known here yet.
//!
//! A replica whose watches lag behind must not take a new pod from its node. So nothing is removed before the API
//! server itself said that it is gone, or that no pod of this node is missing here.

use std::time::Duration;

use message::{Json, NodeName, ObjectKey, ObjectKind};
use serde_json::{Value, json};

use super::super::NodeSet;
use crate::kubernetes::{Cluster, path_of};

/// Pause before looking again while this replica's watches lag behind.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What the API server says of a leftover.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Gone,
    /// A pod of this node that this replica has not seen yet.
    UnseenPod,
    /// It exists, but not for this node.
    Elsewhere,
    Unknown,
}

/// Removes leftovers from the node's set once it is sure.
pub(super) async fn settle(cluster: Cluster, node: NodeName, set: NodeSet) {
    loop {
        let mut left = set.quietly(|desired| desired.unclaimed());
        if left.is_empty() {
            return;
        }
        // Pods first: one that lives shows that this replica is behind.
        left.sort_by_key(|(key, _)| key.kind != ObjectKind::Pod);
        let mut behind = false;
        for (key, uid) in left {
            match look(&cluster, &node, &key, &uid).await {
                Found::Gone => remove(&set, &key, &uid, false),
                Found::Elsewhere if !behind => remove(&set, &key, &uid, true),
                Found::Elsewhere | Found::UnseenPod | Found::Unknown => behind = true,
            }
        }
        if !behind {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn remove(set: &NodeSet, key: &ObjectKey, uid: &str, may_return: bool) {
    set.with(|desired| {
        if !desired.is_claimed(uid) {
            desired.remove(key, uid, stub(key, uid), may_return);
        }
    });
}

async fn look(cluster: &Cluster, node: &NodeName, key: &ObjectKey, uid: &str) -> Found {
    // A kind without a path was never sent by this version.
    let Some(path) = path_of(key) else { return Found::Gone };
    let object = match cluster.get(&path).await {
        Ok(object) => object.parse::<Value>().unwrap_or_default(),
        Err(status) if status.is_not_found() => return Found::Gone,
        Err(_) => return Found::Unknown,
    };
    if object["metadata"]["uid"] != uid {
        return Found::Gone;
    }
    match key.kind {
        ObjectKind::Pod if object["spec"]["nodeName"] == node.as_str() => Found::UnseenPod,
        // The node itself exists: its watch will tell.
        ObjectKind::Node => Found::Unknown,
        _ => Found::Elsewhere,
    }
}

fn stub(key: &ObjectKey, uid: &str) -> Json {
    let metadata = json!({"name": key.name, "namespace": key.namespace, "uid": uid});
    Json::encode(&json!({"metadata": metadata})).unwrap_or_else(|_| Json::null())
}
