//! Pods leave a node whose taints with the effect NoExecute they do not tolerate, or not for longer.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use apimachinery::Status;
use apimachinery::kinds::lines;
use apimachinery::object::{self, integer, list};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{Key, Kind};
use crate::cache::{Cache, Change};
use crate::shell::{Again, Controller, Work};
use crate::{conditions, placement, pods, time};

const NODE: Kind = &lines::Node;
const POD: Kind = &lines::Pod;

/// How long a pod may stay.
#[derive(Debug, PartialEq)]
enum Stay {
    ForEver,
    For(i64),
}

/// How long the tolerations of a pod allow it to be with these taints, which all have the effect NoExecute.
fn stay(pod: &Value, taints: &[Value]) -> Stay {
    let tolerations = list(pod, "/spec/tolerations");
    let mut shortest: Option<i64> = None;
    for taint in taints {
        let Some(used) = tolerations.iter().find(|one| placement::tolerates(one, taint)) else {
            return Stay::For(0);
        };
        let seconds = integer(used, "/tolerationSeconds").map(|seconds| seconds.max(0));
        shortest = match (shortest, seconds) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    shortest.map_or(Stay::ForEver, Stay::For)
}

fn executing(node: &Value) -> Vec<Value> {
    list(node, "/spec/taints").iter().filter(|taint| taint["effect"] == "NoExecute").cloned().collect()
}

/// The controller.
#[derive(Default)]
pub struct Evictions {
    /// Since when a node is tainted, where its taints do not say so.
    since: Mutex<HashMap<String, Timestamp>>,
}

impl Evictions {
    fn since(&self, node: &str, taints: &[Value], now: Timestamp) -> Timestamp {
        let told = taints.iter().filter_map(|taint| time::at(taint, "/timeAdded")).max();
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        match told {
            Some(told) if taints.iter().all(|taint| taint.get("timeAdded").is_some()) => told,
            _ => *since.entry(node.to_owned()).or_insert(now),
        }
    }

    fn forget(&self, node: &str) {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }
}

impl Controller for Evictions {
    fn name(&self) -> &'static str {
        "taint-eviction-controller"
    }

    fn user(&self) -> &'static str {
        "system:serviceaccount:kube-system:node-controller"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![NODE, POD]
    }

    /// Keys are nodes.
    fn touched(&self, cache: &Cache, change: &Change) -> Vec<Key> {
        if change.kind == NODE {
            let is_tainted = change.states().any(|node| !executing(&node.value()).is_empty());
            return if is_tainted { vec![change.key.clone()] } else { vec![] };
        }
        let Some(new) = change.new.as_ref().filter(|_| change.kind == POD) else { return vec![] };
        let pod = new.value();
        let node = Key::new("", pods::node(&pod));
        let is_tainted = cache.store(NODE).get(&node).is_some_and(|node| !executing(&node).is_empty());
        if is_tainted { vec![node] } else { vec![] }
    }

    fn reconcile<'a>(&'a self, work: &'a Work, key: &'a Key) -> BoxFuture<'a, Result<Again, Status>> {
        self.look(work, key).boxed()
    }
}

impl Evictions {
    async fn look(&self, work: &Work, key: &Key) -> Result<Again, Status> {
        let node = work.cache.store(NODE).get(key);
        let taints = node.as_ref().map(executing).unwrap_or_default();
        if taints.is_empty() {
            self.forget(&key.name);
            return Ok(None);
        }
        let now = (work.now)();
        let since = self.since(&key.name, &taints, now);
        let mut again: Option<Duration> = None;
        for pod in work.cache.store(POD).values("") {
            if pods::node(&pod) != key.name || object::deleting(&pod) {
                continue;
            }
            let Stay::For(seconds) = stay(&pod, &taints) else { continue };
            let goes = time::after(since, seconds);
            if goes > now {
                again = time::sooner(again, Some(time::between(now, goes)));
                continue;
            }
            evict(work, &pod).await?;
        }
        Ok(again)
    }
}

async fn evict(work: &Work, pod: &Value) -> Result<(), Status> {
    let (namespace, name) = (object::namespace(pod), object::name(pod));
    let message = format!("Marking for deletion Pod {namespace}/{name}");
    work.client.event(POD, pod, ("Normal", "TaintManagerEviction", &message)).await;
    let mut all = list(pod, "/status/conditions").to_vec();
    let now = daemon::clock::rfc3339((work.now)());
    let what = ("True", "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint");
    conditions::set(&mut all, "DisruptionTarget", what, &now);
    let patch = json!({"metadata": {"uid": object::uid(pod)}, "status": {"conditions": all}});
    match work.client.patch(POD, &Key::of(pod), "status", &patch).await {
        Err(status) if status.is_not_found() => return Ok(()),
        other => drop(other?),
    }
    work.client.delete(POD, pod).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_toleration_counts_and_one_that_lacks_counts_at_once() {
        let taint = |key: &str| json!({"key": key, "effect": "NoExecute"});
        let pod = |tolerations: Value| json!({"spec": {"tolerations": tolerations}});
        let toleration = |key: &str, seconds: Value| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let both = [taint("a"), taint("b")];
        assert_eq!(
            stay(&pod(json!([toleration("a", json!(30)), toleration("b", json!(20))])), &both),
            Stay::For(20)
        );
        assert_eq!(stay(&pod(json!([toleration("a", json!(30))])), &both), Stay::For(0));
        assert_eq!(stay(&pod(json!([{"operator": "Exists"}])), &both), Stay::ForEver);
    }
}
