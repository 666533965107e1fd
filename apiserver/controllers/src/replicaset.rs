//! ReplicaSets: as many pods of a template as are asked for (`pkg/controller/replicaset`). ReplicationControllers are the same with
//! a plainer selector (`pkg/controller/replication`).

mod ranking;

use apimachinery::kinds::lines;
use apimachinery::object::{self, integer, list};
use apimachinery::{LabelSelector, Status};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{Key, Kind};
use crate::cache::{Cache, Change};
use crate::conditions;
use crate::ownership::{self, claim};
use crate::shell::{Again, Controller, Work};
use crate::{pods, touched};

/// Pods made or deleted in one round (`BurstReplicas`).
const BURST: usize = 500;

/// What is to be done for a ReplicaSet.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub create: usize,
    pub delete: Vec<Value>,
}

/// `pods` are its own; `related` says how many pods of the same owner run on a node.
pub fn plan(set: &Value, own: &[Value], related: &dyn Fn(&str) -> usize) -> Plan {
    if object::deleting(set) {
        return Plan::default();
    }
    let wanted = usize::try_from(replicas(set)).unwrap_or(0);
    let mut active: Vec<&Value> = own.iter().filter(|pod| pods::is_active(pod)).collect();
    if active.len() <= wanted {
        return Plan { create: (wanted - active.len()).min(BURST), delete: vec![] };
    }
    let surplus = (active.len() - wanted).min(BURST);
    ranking::sort(&mut active, related);
    Plan { create: 0, delete: active.into_iter().take(surplus).cloned().collect() }
}

pub fn replicas(set: &Value) -> i64 {
    integer(set, "/spec/replicas").unwrap_or(1).max(0)
}

/// The status of a ReplicaSet; `failure` is what kept pods from being made or deleted.
pub fn status(set: &Value, own: &[Value], failure: Option<(&str, &str)>, now: Timestamp) -> Value {
    let active: Vec<&Value> = own.iter().filter(|pod| pods::is_active(pod)).collect();
    let template = set["spec"]["template"]["metadata"]["labels"].as_object();
    let labeled = |pod: &&&Value| {
        template
            .is_none_or(|labels| labels.iter().all(|(name, value)| pod["metadata"]["labels"][name] == *value))
    };
    let min_ready = integer(set, "/spec/minReadySeconds").unwrap_or(0);
    let mut status = json!({
        "replicas": active.len(),
        "observedGeneration": integer(set, "/metadata/generation").unwrap_or(0),
    });
    for (field, count) in [
        ("fullyLabeledReplicas", active.iter().filter(labeled).count()),
        ("readyReplicas", active.iter().filter(|pod| pods::is_ready(pod)).count()),
        ("availableReplicas", active.iter().filter(|pod| pods::is_available(pod, min_ready, now)).count()),
    ] {
        if count > 0 {
            status[field] = json!(count);
        }
    }
    let mut all = list(set, "/status/conditions").to_vec();
    match failure {
        Some((reason, message)) => {
            let now = daemon::clock::rfc3339(now);
            conditions::set(&mut all, "ReplicaFailure", ("True", reason, message), &now);
        }
        None => all.retain(|condition| condition["type"] != "ReplicaFailure"),
    }
    if !all.is_empty() {
        status["conditions"] = Value::Array(all);
    }
    status
}

/// The controller.
pub struct ReplicaSets;

const KIND: Kind = &lines::ReplicaSet;

impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset-controller"
    }

    fn user(&self) -> &'static str {
        "system:serviceaccount:kube-system:replicaset-controller"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![KIND, &lines::Pod]
    }

    fn touched(&self, cache: &Cache, change: &Change) -> Vec<Key> {
        touched::by_pods(KIND, "/spec/selector", cache, change)
    }

    fn reconcile<'a>(&'a self, work: &'a Work, key: &'a Key) -> BoxFuture<'a, Result<Again, Status>> {
        reconcile(work, KIND, key).boxed()
    }
}

/// The controller of ReplicationControllers.
pub struct ReplicationControllers;

const OLDER: Kind = &lines::ReplicationController;

impl Controller for ReplicationControllers {
    fn name(&self) -> &'static str {
        "replicationcontroller-controller"
    }

    fn user(&self) -> &'static str {
        "system:serviceaccount:kube-system:replication-controller"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![OLDER, &lines::Pod]
    }

    fn touched(&self, cache: &Cache, change: &Change) -> Vec<Key> {
        touched::by_pods(OLDER, "/spec/selector", cache, change)
    }

    fn reconcile<'a>(&'a self, work: &'a Work, key: &'a Key) -> BoxFuture<'a, Result<Again, Status>> {
        reconcile(work, OLDER, key).boxed()
    }
}

async fn reconcile(work: &Work, kind: Kind, key: &Key) -> Result<Again, Status> {
    let Some(set) = work.cache.store(kind).get(key) else { return Ok(None) };
    let Some(selector) = touched::selector(kind, &set["spec"]["selector"]) else { return Ok(None) };
    let own = own_pods(work, kind, &set, &selector).await?;
    let related = |node: &str| related(&work.cache, kind, &set, node);
    let plan = plan(&set, &own, &related);
    let failure = carry_out(work, kind, &set, plan).await;
    let told = failure.as_ref().map(|(reason, status)| (*reason, status.message.as_str()));
    let status = status(&set, &own, told, (work.now)());
    work.client.update_status(kind, &set, status).await?;
    match failure {
        Some((_, status)) => Err(status),
        None => {
            let min_ready = integer(&set, "/spec/minReadySeconds").unwrap_or(0);
            Ok(pods::next_available(own.iter(), min_ready, (work.now)()))
        }
    }
}

/// The pods of `owner`, after those that it takes over and without those that it lets go.
pub(crate) async fn own_pods(
    work: &Work,
    kind: Kind,
    owner: &Value,
    selector: &LabelSelector,
) -> Result<Vec<Value>, Status> {
    let pods = work.cache.store(&lines::Pod);
    let candidates = pods.candidates(object::namespace(owner), object::uid(owner), selector);
    let mut claims = claim(owner, selector, candidates);
    claims.adopt.retain(|pod| !pods::is_finished(pod));
    if !claims.adopt.is_empty() && !is_there(work, kind, owner).await? {
        claims.adopt.clear();
    }
    for pod in claims.adopt {
        work.client.patch_object(&lines::Pod, &pod, ownership::adoption(kind, owner, &pod)).await?;
        claims.owned.push(pod);
    }
    for pod in claims.release {
        work.client.patch_object(&lines::Pod, &pod, ownership::release(owner, &pod)).await?;
    }
    Ok(claims.owned)
}

/// True if the owner is still there and not being deleted, whatever the cache shows: who orphans its pods wants them to stay so.
async fn is_there(work: &Work, kind: Kind, owner: &Value) -> Result<bool, Status> {
    match work.client.get(kind, &Key::of(owner)).await {
        Ok(found) => Ok(object::uid(&found) == object::uid(owner) && !object::deleting(&found)),
        Err(status) if status.is_not_found() => Ok(false),
        Err(status) => Err(status),
    }
}

/// Pods on a node of all sets with the same owner: the fuller node gives one up first.
fn related(cache: &Cache, kind: Kind, set: &Value, node: &str) -> usize {
    let owner = ownership::controller_uid(set);
    let mut sets = match owner {
        "" => vec![],
        owner => cache.store(kind).owned_by(owner),
    };
    if sets.is_empty() {
        sets.push(set.clone());
    }
    let pods = sets.iter().flat_map(|set| cache.store(&lines::Pod).owned_by(object::uid(set)));
    pods.filter(|pod| pods::is_active(pod) && pods::node(pod) == node).count()
}

async fn carry_out(work: &Work, kind: Kind, set: &Value, plan: Plan) -> Option<(&'static str, Status)> {
    let template = &set["spec"]["template"];
    for _ in 0..plan.create {
        let pod = pods::from_template(kind, set, template);
        match work.client.create(&lines::Pod, &pod).await {
            Ok(made) => {
                let message = format!("Created pod: {}", object::name(&made));
                work.client.event(kind, set, ("Normal", "SuccessfulCreate", &message)).await;
            }
            Err(status) => {
                let message = format!("Error creating: {}", status.message);
                work.client.event(kind, set, ("Warning", "FailedCreate", &message)).await;
                return Some(("FailedCreate", status));
            }
        }
    }
    for pod in &plan.delete {
        match work.client.delete(&lines::Pod, pod).await {
            Ok(()) => {
                let message = format!("Deleted pod: {}", object::name(pod));
                work.client.event(kind, set, ("Normal", "SuccessfulDelete", &message)).await;
            }
            Err(status) => {
                let message = format!("Error deleting: {}", status.message);
                work.client.event(kind, set, ("Warning", "FailedDelete", &message)).await;
                return Some(("FailedDelete", status));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(replicas: i64) -> Value {
        json!({"metadata": {"name": "s", "generation": 3}, "spec": {"replicas": replicas, "minReadySeconds": 10,
            "template": {"metadata": {"labels": {"app": "a"}}}}})
    }

    fn pod(name: &str, ready_since: &str) -> Value {
        let status = if ready_since.is_empty() { "False" } else { "True" };
        json!({"metadata": {"name": name, "labels": {"app": "a"}}, "spec": {"nodeName": "n"}, "status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": status, "lastTransitionTime": ready_since}]}})
    }

    #[test]
    fn missing_pods_are_made_and_ended_ones_replaced() {
        let mut ended = pod("b", "");
        ended["status"]["phase"] = json!("Failed");
        let mut leaving = pod("c", "");
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let plan = plan(&set(3), &[pod("a", ""), ended, leaving], &|_| 0);
        assert_eq!(plan, Plan { create: 2, delete: vec![] });
    }

    #[test]
    fn pods_that_are_not_ready_go_first() {
        let plan = plan(&set(1), &[pod("a", "2026-01-01T00:00:00Z"), pod("b", "")], &|_| 0);
        assert_eq!(plan.create, 0);
        assert_eq!(plan.delete, [pod("b", "")]);
    }

    #[test]
    fn a_set_that_is_being_deleted_makes_nothing() {
        let mut set = set(5);
        set["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(plan(&set, &[], &|_| 0), Plan::default());
    }

    #[test]
    fn a_pod_is_available_once_it_was_ready_for_long_enough() {
        let now: Timestamp = "2026-01-01T00:00:30Z".parse().unwrap();
        let own = [pod("a", "2026-01-01T00:00:00Z"), pod("b", "2026-01-01T00:00:25Z"), pod("c", "")];
        let status = status(&set(3), &own, None, now);
        assert_eq!(
            status,
            json!({"replicas": 3, "fullyLabeledReplicas": 3, "readyReplicas": 2, "availableReplicas": 1,
            "observedGeneration": 3})
        );
        let next = pods::next_available(own.iter(), 10, now).unwrap();
        assert_eq!(next, std::time::Duration::from_secs(5));
    }
}
