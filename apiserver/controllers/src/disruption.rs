//! PodDisruptionBudgets: how many pods may be taken away now, which evictions go by (`pkg/controller/disruption`).

use std::collections::BTreeMap;
use std::time::Duration;

use apimachinery::kinds::lines;
use apimachinery::object::{self, integer, list};
use apimachinery::{LabelSelector, Status};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::{Key, Kind};
use crate::cache::{Cache, Change};
use crate::shell::{Again, Controller, Work};
use crate::{conditions, ownership, percent, pods, time};

const KIND: Kind = &lines::PodDisruptionBudget;
/// An eviction that was allowed and did not become a deletion counts no longer (`DeletionTimeout`), in seconds.
const EVICTING: i64 = 120;

/// The status of a budget over `selected` pods; `scale` is how many pods there are to be by their controllers. Then when to
/// look again.
pub fn status(budget: &Value, selected: &[Value], scale: i64, now: Timestamp) -> (Value, Option<Duration>) {
    let mut again = None;
    let mut evicting = Map::new();
    for (name, since) in budget["status"]["disruptedPods"].as_object().into_iter().flatten() {
        let since: Option<Timestamp> = since.as_str().and_then(|since| since.parse().ok());
        let there = selected.iter().any(|pod| object::name(pod) == name && !object::deleting(pod));
        let Some(ends) = since.map(|since| time::after(since, EVICTING)).filter(|ends| there && *ends > now)
        else {
            continue;
        };
        again = time::sooner(again, Some(time::between(now, ends)));
        evicting.insert(name.clone(), budget["status"]["disruptedPods"][name].clone());
    }
    let is_healthy = |pod: &&Value| {
        pods::is_ready(pod) && pods::is_active(pod) && !evicting.contains_key(object::name(pod))
    };
    let healthy = selected.iter().filter(is_healthy).count() as i64;
    let spec = &budget["spec"];
    let (expected, desired) = match (&spec["maxUnavailable"], &spec["minAvailable"]) {
        (Value::Null, Value::Number(least)) => (selected.len() as i64, least.as_i64().unwrap_or(0)),
        (Value::Null, Value::Null) => (selected.len() as i64, 1),
        (Value::Null, share) => (scale, percent::of(share, scale, true)),
        (most, _) => (scale, (scale - percent::of(most, scale, true)).max(0)),
    };
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let mut all = list(budget, "/status/conditions").to_vec();
    let (value, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    conditions::set(&mut all, "DisruptionAllowed", (value, reason, ""), &daemon::clock::rfc3339(now));
    let generation = integer(budget, "/metadata/generation").unwrap_or(0);
    for condition in all.iter_mut().filter(|condition| condition["type"] == "DisruptionAllowed") {
        condition["observedGeneration"] = json!(generation);
    }
    let mut status = json!({
        "currentHealthy": healthy, "desiredHealthy": desired, "expectedPods": expected, "disruptionsAllowed": allowed,
        "observedGeneration": generation, "conditions": all,
    });
    if !evicting.is_empty() {
        status["disruptedPods"] = Value::Object(evicting);
    }
    (status, again)
}

/// How many pods there are to be, by the controllers of these; those of none count as one each.
fn scale(cache: &Cache, selected: &[Value]) -> i64 {
    let mut sizes: BTreeMap<String, i64> = BTreeMap::new();
    for pod in selected {
        let Some((uid, size)) = controller(cache, pod) else {
            sizes.insert(object::uid(pod).to_owned(), 1);
            continue;
        };
        sizes.insert(uid, size);
    }
    sizes.values().sum()
}

/// The uid and size of what a pod is a part of.
fn controller(cache: &Cache, pod: &Value) -> Option<(String, i64)> {
    let owner = |object: &Value, kind: Kind| {
        let name = ownership::controller_name(object, kind)?;
        cache.store(kind).get(&Key::new(object::namespace(object), name))
    };
    let set = owner(pod, &lines::ReplicaSet);
    let found = match set {
        Some(set) => owner(&set, &lines::Deployment).unwrap_or(set),
        None => owner(pod, &lines::StatefulSet).or_else(|| owner(pod, &lines::ReplicationController))?,
    };
    Some((object::uid(&found).to_owned(), integer(&found, "/spec/replicas").unwrap_or(1)))
}

/// The controller.
pub struct Disruptions;

impl Controller for Disruptions {
    fn name(&self) -> &'static str {
        "disruption-controller"
    }

    fn user(&self) -> &'static str {
        "system:serviceaccount:kube-system:disruption-controller"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![
            KIND,
            &lines::Pod,
            &lines::ReplicaSet,
            &lines::Deployment,
            &lines::StatefulSet,
            &lines::ReplicationController,
        ]
    }

    fn touched(&self, cache: &Cache, change: &Change) -> Vec<Key> {
        if change.kind == KIND {
            return vec![change.key.clone()];
        }
        let budgets = cache.store(KIND).entries(&change.key.namespace);
        if budgets.is_empty() {
            return vec![];
        }
        let is_pod = change.kind == &lines::Pod;
        let concerns = |budget: &Value| {
            let selector = LabelSelector::of_object(&budget["spec"]["selector"], "spec.selector");
            selector.is_ok_and(|selector| change.states().any(|pod| selector.matches(&pod.labels)))
        };
        let all = budgets.into_iter().filter(|(_, budget)| !is_pod || concerns(&budget.value()));
        all.map(|(key, _)| key).collect()
    }

    fn reconcile<'a>(&'a self, work: &'a Work, key: &'a Key) -> BoxFuture<'a, Result<Again, Status>> {
        async move {
            let Some(budget) = work.cache.store(KIND).get(key) else { return Ok(None) };
            let selector = &budget["spec"]["selector"];
            let selected = match LabelSelector::of_object(selector, "spec.selector") {
                Ok(read) if !selector.is_null() => {
                    work.cache.store(&lines::Pod).selected(&key.namespace, &read)
                }
                _ => vec![],
            };
            let selected: Vec<Value> = selected.into_iter().filter(|pod| !pods::is_finished(pod)).collect();
            let (status, again) = status(&budget, &selected, scale(&work.cache, &selected), (work.now)());
            work.client.update_status(KIND, &budget, status).await?;
            Ok(again)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, ready: bool) -> Value {
        json!({"metadata": {"name": name}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}})
    }

    fn now() -> Timestamp {
        "2026-01-01T00:10:00Z".parse().unwrap()
    }

    fn numbers(spec: Value, selected: &[Value], scale: i64) -> (i64, i64, i64) {
        let (status, _) = status(&json!({"spec": spec}), selected, scale, now());
        let number = |field: &str| status[field].as_i64().unwrap();
        (number("currentHealthy"), number("desiredHealthy"), number("disruptionsAllowed"))
    }

    #[test]
    fn what_is_healthy_beyond_what_is_wanted_may_go() {
        let some = [pod("a", true), pod("b", true), pod("c", false)];
        assert_eq!(numbers(json!({"minAvailable": 1}), &some, 3), (2, 1, 1));
        assert_eq!(numbers(json!({"minAvailable": "50%"}), &some, 3), (2, 2, 0));
        assert_eq!(numbers(json!({"maxUnavailable": 1}), &some, 3), (2, 2, 0));
        assert_eq!(numbers(json!({"maxUnavailable": 2}), &some, 3), (2, 1, 1));
        assert_eq!(numbers(json!({"maxUnavailable": 1}), &[], 0), (0, 0, 0));
    }

    #[test]
    fn a_pod_that_is_being_evicted_counts_as_gone_until_it_is_or_for_two_minutes() {
        let budget =
            |since: &str| json!({"spec": {"minAvailable": 1}, "status": {"disruptedPods": {"a": since}}});
        let some = [pod("a", true), pod("b", true)];
        let (fresh, again) = status(&budget("2026-01-01T00:09:00Z"), &some, 2, now());
        assert_eq!((&fresh["disruptionsAllowed"], again), (&json!(0), Some(Duration::from_secs(60))));
        let (old, _) = status(&budget("2026-01-01T00:07:00Z"), &some, 2, now());
        assert_eq!((&old["disruptionsAllowed"], old.get("disruptedPods")), (&json!(1), None));
    }
}
