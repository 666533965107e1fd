//! Housekeeping, which one replica does for all: deletes the sync objects of nodes that no longer exist (docs/protocol/transport.md 3.8) at
//! start, when a node goes, and once an hour for what was written in between; and the records of single-use tokens that have
//! ended. In a sweep a node with pods counts as there.

use std::time::Duration;

use apimachinery::kinds::lines;
use message::NodeName;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::cloudhub::register;
use crate::desired::Records;
use crate::kubernetes::{self, Cluster, FromWatch, Resource, WatchEvent, WorkEnded};
use crate::synccontroller::Syncs;

/// Name of the lease's singleton.
const SINGLETON: &str = "garbage";
const SWEEP: Duration = Duration::from_secs(3600);
/// Nodes that may be waiting.
const QUEUE: usize = 256;

/// Collects while this replica leads; returns when stopped.
/// `filled`: every record that existed at the start is known.
pub async fn collect_garbage(
    cluster: Cluster,
    syncs: Syncs,
    filled: watch::Receiver<bool>,
    stop: CancellationToken,
) -> Result<(), WorkEnded> {
    let work = |stop| collect(cluster.clone(), syncs.clone(), filled.clone(), stop);
    kubernetes::lead(cluster.clone(), SINGLETON, stop, work).await
}

async fn collect(cluster: Cluster, syncs: Syncs, mut filled: watch::Receiver<bool>, stop: CancellationToken) {
    // Its sender is gone only when the program ends.
    let _ = filled.wait_for(|filled| *filled).await;
    let (room, mut seen) = mpsc::channel::<FromWatch>(QUEUE);
    tokio::spawn(kubernetes::feed(cluster.clone(), Resource::Nodes, room, stop.clone()));
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            biased;
            _ = stop.cancelled() => return,
            seen = seen.recv() => match seen {
                None => return,
                Some(FromWatch { event: WatchEvent::Gone { meta, .. }, .. }) => {
                    collect_node(&cluster, &syncs, &meta.name).await;
                }
                Some(_) => {}
            },
            _ = sweep.tick() => {
                for node in syncs.nodes() {
                    if !has_pods(&cluster, &node).await {
                        collect_node(&cluster, &syncs, &node).await;
                    }
                }
                register::forget_expired(&cluster, daemon::clock::unix_seconds()).await;
            }
        }
    }
}

/// True if pods are bound to `node`, or if that cannot be told. An edge without edged serves them without ever having
/// had a node object, and needs its records.
async fn has_pods(cluster: &Cluster, node: &str) -> bool {
    let path = format!("{}?limit=1&fieldSelector=spec.nodeName%3D{node}", lines::Pod.path(None, ""));
    match cluster.get(&path).await.map(|list| list.parse::<serde_json::Value>()) {
        Ok(Ok(list)) => list["items"].as_array().is_none_or(|items| !items.is_empty()),
        _ => true,
    }
}

/// Deletes the records of `node` if the API server says that there is no such node: one that was made again stays.
async fn collect_node(cluster: &Cluster, syncs: &Syncs, node: &str) {
    let Ok(name) = NodeName::new(node) else { return };
    match cluster.get(&Resource::Nodes.path(None, name.as_str())).await {
        Err(status) if status.is_not_found() => {}
        _ => return,
    }
    let records = syncs.known(node);
    if records.is_empty() {
        return;
    }
    tracing::info!(node, records = records.len(), "records of a node that is gone are deleted");
    syncs.forget(cluster, node).await;
}
