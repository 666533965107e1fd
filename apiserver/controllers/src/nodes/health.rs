//! Whether a node is heard of: by its lease and its status, on this program's clock.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apimachinery::Status;
use apimachinery::kinds::{NODE_LEASES, lines};
use apimachinery::object::{self, list, text};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::taints;
use crate::api::{Key, Kind};
use crate::cache::{Cache, Change};
use crate::conditions;
use crate::pods;
use crate::shell::{Again, Controller, Work};

const NODE: Kind = &lines::Node;
const LEASE: Kind = &lines::Lease;
/// `--node-monitor-grace-period`, and the longer `--node-startup-grace-period` for one that has said nothing yet.
const GRACE: Duration = Duration::from_secs(50);
const START: Duration = Duration::from_secs(60);

/// What a node said last, and when that came.
#[derive(Clone, Debug)]
struct Heard {
    said: (String, String),
    at: Instant,
}

/// What a node says by its lease and its status.
fn said(node: &Value, lease: Option<&Value>) -> (String, String) {
    let renewed = lease.map(|lease| text(lease, "/spec/renewTime")).unwrap_or_default();
    let ready = conditions::find(node, "Ready");
    let heartbeat = ready.map(|ready| text(ready, "/lastHeartbeatTime")).unwrap_or_default();
    (renewed.to_owned(), heartbeat.to_owned())
}

/// The conditions of a node that has fallen silent.
fn unknown(node: &Value, now: &str) -> Vec<Value> {
    let mut all = list(node, "/status/conditions").to_vec();
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        match all.iter_mut().find(|condition| condition["type"] == kind) {
            None => all.push(json!({"type": kind, "status": "Unknown", "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.", "lastHeartbeatTime": null, "lastTransitionTime": now})),
            Some(condition) if condition["status"] == "Unknown" => {}
            Some(condition) => {
                condition["status"] = json!("Unknown");
                condition["reason"] = json!("NodeStatusUnknown");
                condition["message"] = json!("Kubelet stopped posting node status.");
                condition["lastTransitionTime"] = json!(now);
            }
        }
    }
    all
}

fn is_ready(node: &Value) -> bool {
    conditions::is_true(node, "Ready")
}

/// The controller.
#[derive(Default)]
pub struct Health {
    heard: Mutex<HashMap<String, Heard>>,
}

impl Health {
    fn heard(&self) -> MutexGuard<'_, HashMap<String, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the node may still be silent; zero: too long already.
    fn left(&self, node: &Value, lease: Option<&Value>) -> Duration {
        let (said, now) = (said(node, lease), Instant::now());
        let mut heard = self.heard();
        let last = heard
            .entry(object::name(node).to_owned())
            .and_modify(|last| {
                if last.said != said {
                    *last = Heard { said: said.clone(), at: now };
                }
            })
            .or_insert_with(|| Heard { said: said.clone(), at: now });
        let grace = if conditions::find(node, "Ready").is_some() { GRACE } else { START };
        (last.at + grace).saturating_duration_since(now)
    }
}

impl Controller for Health {
    fn name(&self) -> &'static str {
        "node-lifecycle-controller"
    }

    fn user(&self) -> &'static str {
        "system:serviceaccount:kube-system:node-controller"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![NODE, LEASE, &lines::Pod]
    }

    fn touched(&self, cache: &Cache, change: &Change) -> Vec<Key> {
        if change.kind == NODE {
            let ready = |entry: &Option<std::sync::Arc<crate::cache::Entry>>| {
                entry.as_ref().map(|one| is_ready(&one.value()))
            };
            // The first that is ready, or the last: others are judged anew.
            if ready(&change.old) != ready(&change.new) {
                let nodes = cache.store(NODE).entries("");
                return nodes.into_iter().map(|(key, _)| key).chain([change.key.clone()]).collect();
            }
            return vec![change.key.clone()];
        }
        let is_lease = change.kind == LEASE && change.key.namespace == NODE_LEASES;
        if is_lease { vec![Key::new("", &change.key.name)] } else { vec![] }
    }

    fn reconcile<'a>(&'a self, work: &'a Work, key: &'a Key) -> BoxFuture<'a, Result<Again, Status>> {
        self.look(work, key).boxed()
    }
}

impl Health {
    async fn look(&self, work: &Work, key: &Key) -> Result<Again, Status> {
        let Some(mut node) = work.cache.store(NODE).get(key) else {
            self.heard().remove(&key.name);
            return Ok(None);
        };
        let lease = work.cache.store(LEASE).get(&Key::new(NODE_LEASES, &key.name));
        let left = self.left(&node, lease.as_ref());
        let now = daemon::clock::rfc3339((work.now)());
        let is_silent = left.is_zero();
        let known = conditions::find(&node, "Ready").map(|ready| text(ready, "/status").to_owned());
        if is_silent && known.as_deref() != Some("Unknown") {
            let message = format!("Node {} status is now: NodeNotReady", key.name);
            let patch = json!({"metadata": {"resourceVersion": object::resource_version(&node)},
                "status": {"conditions": unknown(&node, &now)}});
            node = work.client.patch(NODE, key, "status", &patch).await?;
            work.client.event(NODE, &node, ("Normal", "NodeNotReady", &message)).await;
        }
        if !is_ready(&node) && known.is_some() {
            self.unready_pods(work, &key.name, &now).await?;
        }
        let any_ready = is_ready(&node) || work.cache.store(NODE).values("").iter().any(is_ready);
        if let Some(taints) = taints::wanted(&node, any_ready, &now) {
            let patch = json!({"metadata": {"resourceVersion": object::resource_version(&node)}, "spec": {"taints": taints}});
            work.client.patch(NODE, key, "", &patch).await?;
        }
        Ok((!is_silent).then_some(left))
    }

    /// Pods of a node that is not ready are not ready either: nothing is sent to them.
    async fn unready_pods(&self, work: &Work, node: &str, now: &str) -> Result<(), Status> {
        for pod in work.cache.store(&lines::Pod).values("") {
            if pods::node(&pod) != node || !pods::is_ready(&pod) {
                continue;
            }
            let mut all = list(&pod, "/status/conditions").to_vec();
            for condition in all.iter_mut().filter(|condition| condition["type"] == "Ready") {
                condition["status"] = json!("False");
                condition["lastTransitionTime"] = json!(now);
            }
            let patch = json!({"metadata": {"uid": object::uid(&pod)}, "status": {"conditions": all}});
            match work.client.patch(&lines::Pod, &Key::of(&pod), "status", &patch).await {
                Err(status) if !status.is_not_found() => return Err(status),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_never_said_anything_and_one_that_stopped_are_told_apart() {
        let node = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "0"}]}});
        let all = unknown(&node, "1");
        let reasons: Vec<&str> = all.iter().map(|one| text(one, "/reason")).collect();
        assert_eq!(reasons[..2], ["NodeStatusUnknown", "NodeStatusNeverUpdated"]);
        assert_eq!(all.len(), 4);
        assert!(all.iter().all(|one| one["status"] == "Unknown" && one["lastTransitionTime"] == "1"));
    }

    #[tokio::test(start_paused = true)]
    async fn either_a_lease_or_a_status_is_a_sign_of_life() {
        let health = Health::default();
        let node = |heartbeat: &str| json!({"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat}]}});
        let lease = |renewed: &str| json!({"spec": {"renewTime": renewed}});
        assert_eq!(health.left(&node("1"), Some(&lease("1"))), GRACE);
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(health.left(&node("1"), Some(&lease("1"))), Duration::from_secs(10));
        assert_eq!(health.left(&node("1"), Some(&lease("2"))), GRACE);
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(health.left(&node("2"), Some(&lease("2"))), GRACE);
        tokio::time::advance(GRACE).await;
        assert!(health.left(&node("2"), Some(&lease("2"))).is_zero());
    }
}
