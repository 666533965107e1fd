//! Writes down that node objects were deleted: their certificates are refused from then on.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::refused::{NAME, NAMESPACE, Refused, RefusedNode};
use apimachinery::kinds::lines;
use message::{Json, Status};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::kubernetes::Cluster;

/// Wait before a write that failed is tried again; others that get through shorten it.
const AGAIN: Duration = Duration::from_secs(2);
/// The same, where another replica wrote meanwhile.
const MEANWHILE: Duration = Duration::from_millis(50);
const REASON: &str = "its node object was deleted";

/// Node objects that were deleted and are not written down: at most as many as there were. Clones share it.
#[derive(Clone, Default)]
pub struct Deleted {
    nodes: Arc<Mutex<Nodes>>,
    added: Arc<Notify>,
}

#[derive(Default)]
struct Nodes {
    /// Uids by name.
    waiting: BTreeMap<String, String>,
    /// Uids that the list named lately, the newest last.
    listed: VecDeque<String>,
}

/// So many uids are remembered after they were on the list.
const LISTED: usize = 1024;

impl Deleted {
    fn lock(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, node: &str, uid: &str) {
        let mut nodes = self.lock();
        if nodes.listed.iter().any(|listed| listed == uid) {
            return;
        }
        nodes.waiting.insert(node.to_owned(), uid.to_owned());
        drop(nodes);
        self.added.notify_one();
    }

    fn snapshot(&self) -> BTreeMap<String, String> {
        self.lock().waiting.clone()
    }

    /// What is on the list is written down, by whichever replica: once an operator has taken it off again, it stays off.
    pub fn seen(&self, list: &Refused) {
        let mut nodes = self.lock();
        for (node, entry) in list.entries() {
            let Some(uid) = &entry.uid else { continue };
            if nodes.waiting.get(node) == Some(uid) {
                nodes.waiting.remove(node);
            }
            if !nodes.listed.contains(uid) {
                if nodes.listed.len() == LISTED {
                    nodes.listed.pop_front();
                }
                nodes.listed.push_back(uid.clone());
            }
        }
    }

    fn written(&self, nodes: &BTreeMap<String, String>) {
        self.lock().waiting.retain(|node, uid| nodes.get(node) != Some(uid));
    }
}

/// Writes what is waiting, until stopped. `lifetime`: seconds after which no certificate of before is in force.
pub async fn record_deleted(
    cluster: Cluster,
    deleted: Deleted,
    lifetime: i64,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        let nodes = deleted.snapshot();
        let recovery = cluster.recovery();
        let written = async {
            if nodes.is_empty() {
                deleted.added.notified().await;
                return;
            }
            match write(&cluster, &nodes, lifetime).await {
                Ok(()) => deleted.written(&nodes),
                Err(status) if status.is_conflict() => tokio::time::sleep(MEANWHILE).await,
                Err(status) if status.is_retryable() => {
                    tracing::debug!(error = %status, "deleted nodes not written down, trying again");
                    let _ = tokio::time::timeout(AGAIN, recovery.after(Duration::ZERO)).await;
                }
                Err(status) => {
                    let names: Vec<&str> = nodes.keys().map(String::as_str).take(10).collect();
                    tracing::error!(nodes = names.join(" "), error = %status, "deleted nodes could not be written to config map kubeedge/refused-nodes: their machines may come back; keadm node remove tries it again");
                    deleted.written(&nodes);
                }
            }
        };
        tokio::select! {
            biased;
            _ = stop.cancelled() => return Ok(()),
            () = written => {}
        }
    }
}

async fn write(cluster: &Cluster, nodes: &BTreeMap<String, String>, lifetime: i64) -> Result<(), Status> {
    let collection = lines::ConfigMap.path(Some(NAMESPACE), "");
    let stored: Value = match cluster.get(&format!("{collection}/{NAME}")).await {
        Ok(stored) => stored.parse().map_err(|error| unreadable(&error.to_string()))?,
        Err(status) if status.is_not_found() => Value::Null,
        Err(status) => return Err(status),
    };
    let known = match stored.is_null() {
        true => Refused::default(),
        false => Refused::of_map(&stored).ok_or_else(|| unreadable("its data is no map"))?,
    };
    let now = daemon::clock::now();
    let changes = changes(&known, nodes, now.as_second(), &daemon::clock::rfc3339(now), lifetime);
    if changes.is_empty() {
        return Ok(());
    }
    if stored.is_null() {
        let metadata = json!({"name": NAME, "namespace": NAMESPACE});
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": changes});
        return cluster.create(&collection, &Json::of(&map)).await.map(|_| ());
    }
    // A replica that saw the same deletion may have written meanwhile: then it is read again.
    let version = &stored["metadata"]["resourceVersion"];
    let patch = json!({"metadata": {"resourceVersion": version}, "data": changes});
    let path = format!("{collection}/{NAME}");
    cluster.patch(&path, crate::kubernetes::Merge::Json, patch.to_string()).await.map(|_| ())
}

fn unreadable(why: &str) -> Status {
    Status::new(422, "Invalid", format!("reading config map {NAMESPACE}/{NAME}: {why}"))
}

/// A merge patch of the map's `data`: new entries, and nulls for those that are over.
fn changes(
    known: &Refused,
    nodes: &BTreeMap<String, String>,
    now: i64,
    since: &str,
    lifetime: i64,
) -> serde_json::Map<String, Value> {
    let mut changes: serde_json::Map<String, Value> =
        known.over(now, lifetime).into_iter().map(|key| (key, Value::Null)).collect();
    for (node, uid) in nodes {
        let is_known = known.entries().get(node).is_some_and(|entry| {
            // A node that is refused whatever it presents stays so.
            entry.begins_until.is_none() || entry.uid.as_ref() == Some(uid)
        });
        if !is_known {
            let entry = RefusedNode {
                begins_until: Some(now),
                reason: REASON.to_owned(),
                since: since.to_owned(),
                uid: Some(uid.clone()),
            };
            changes.insert(node.clone(), entry.text().into());
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_replica_wrote_down_is_not_written_again_after_it_was_taken_off() {
        let deleted = Deleted::default();
        deleted.add("here", "u1");
        deleted.add("again", "u2");
        let list = [
            ("here", r#"{"beginsUntil": 90, "uid": "u1"}"#),
            ("again", r#"{"beginsUntil": 90, "uid": "u1"}"#),
        ];
        deleted.seen(&Refused::read(&list.map(|(key, text)| (key.to_owned(), text.to_owned())).into()));
        // This replica's watch of nodes may be the later one.
        deleted.add("here", "u1");
        assert_eq!(deleted.snapshot(), BTreeMap::from([("again".to_owned(), "u2".to_owned())]));
    }

    #[test]
    fn a_deletion_is_written_once_and_takes_no_block_away() {
        let nodes: BTreeMap<String, String> =
            ["new", "known", "blocked", "again"].map(|name| (name.to_owned(), "u2".to_owned())).into();
        let known = Refused::read(
            &[
                ("known", r#"{"beginsUntil": 90, "uid": "u2"}"#),
                ("blocked", r#"{"reason": "stolen"}"#),
                ("again", r#"{"beginsUntil": 90, "uid": "u1"}"#),
                ("over", r#"{"beginsUntil": 10}"#),
            ]
            .map(|(key, text)| (key.to_owned(), text.to_owned()))
            .into(),
        );
        let changes = changes(&known, &nodes, 100, "then", 80);
        let keys: Vec<&str> = changes.keys().map(String::as_str).collect();
        assert_eq!(keys, ["again", "new", "over"]);
        assert!(changes["over"].is_null());
        let entry = RefusedNode::read(changes["new"].as_str().unwrap());
        assert_eq!((entry.begins_until, entry.uid.as_deref()), (Some(100), Some("u2")));
    }
}
