//! On which nodes a DaemonSet lacks a pod, or has one too many; pure.

use std::collections::BTreeMap;

use apimachinery::object::{self, integer, list, map_in, text};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::KIND;
use crate::{percent, placement, pods, revisions};

/// What is to be done for a DaemonSet.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// The nodes that get a pod.
    pub create: Vec<String>,
    pub delete: Vec<Value>,
    pub status: Value,
    /// Some of `delete` have failed.
    pub failed: bool,
}

/// The taints that every pod of a DaemonSet tolerates (`util.AddOrUpdateDaemonPodTolerations`).
fn tolerations(spec: &Value) -> Vec<Value> {
    let mut all = list(spec, "/tolerations").to_vec();
    let mut usual = vec![
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    ];
    if spec["hostNetwork"] == true {
        usual.push(("network-unavailable", "NoSchedule"));
    }
    for (key, effect) in usual {
        let toleration =
            json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": effect});
        if !all.contains(&toleration) {
            all.push(toleration);
        }
    }
    all
}

/// A pod of the set for a node.
pub(super) fn pod(set: &Value, node: &str, hash: &str) -> Value {
    let mut pod = pods::from_template(KIND, set, &set["spec"]["template"]);
    pods::label(&mut pod, revisions::HASH, hash);
    let generation = integer(set, "/metadata/generation").unwrap_or(1);
    pods::label(&mut pod, "pod-template-generation", &generation.to_string());
    pod["spec"]["tolerations"] = json!(tolerations(&set["spec"]["template"]["spec"]));
    let here = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    let spec = map_in(object::as_map(&mut pod), "spec");
    let affinity = map_in(map_in(spec, "affinity"), "nodeAffinity");
    let required = map_in(affinity, "requiredDuringSchedulingIgnoredDuringExecution");
    let mut terms = required.get("nodeSelectorTerms").and_then(Value::as_array).cloned().unwrap_or_default();
    if terms.is_empty() {
        terms.push(json!({}));
    }
    for term in &mut terms {
        term["matchFields"] = json!([here]);
    }
    required.insert("nodeSelectorTerms".to_owned(), Value::Array(terms));
    pod
}

/// The node that a pod is on, or is for.
fn node(pod: &Value) -> &str {
    if !pods::node(pod).is_empty() {
        return pods::node(pod);
    }
    let terms = list(
        pod,
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms",
    );
    terms.first().map_or("", |term| text(term, "/matchFields/0/values/0"))
}

/// Whether a node is to have a pod, and whether one that is there may stay.
fn wants(set: &Value, node: &Value) -> (bool, bool) {
    let spec = &set["spec"]["template"]["spec"];
    let named = text(spec, "/nodeName");
    if !(named.is_empty() || named == object::name(node)) || !placement::selects(spec, node) {
        return (false, false);
    }
    let (tolerations, taints) = (tolerations(spec), list(node, "/spec/taints"));
    let stays = placement::untolerated(&tolerations, taints, &["NoExecute"]).is_none();
    (stays && placement::untolerated(&tolerations, taints, &["NoSchedule"]).is_none(), stays)
}

/// `own` are its pods, `hash` that of its template.
pub fn plan(set: &Value, own: &[Value], nodes: &[Value], hash: &str, now: Timestamp) -> Plan {
    let min_ready = integer(set, "/spec/minReadySeconds").unwrap_or(0);
    let mut by_node: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for pod in own {
        by_node.entry(node(pod)).or_default().push(pod);
    }
    let mut plan = Plan::default();
    let mut counts = Counts::default();
    // The pod of each node that is to have one.
    let mut right: Vec<Option<&Value>> = Vec::new();
    for node in nodes {
        let (runs, stays) = wants(set, node);
        let mut here = by_node.remove(object::name(node)).unwrap_or_default();
        here.sort_by_key(|pod| (!pods::is_ready(pod), text(pod, "/metadata/creationTimestamp").to_owned()));
        if !stays {
            counts.misplaced += i64::from(!here.is_empty());
            plan.delete.extend(here.into_iter().filter(|pod| !object::deleting(pod)).cloned());
            continue;
        }
        let (ended, rest): (Vec<&Value>, Vec<&Value>) =
            here.into_iter().partition(|pod| pods::is_finished(pod));
        plan.failed |=
            ended.iter().any(|pod| text(pod, "/status/phase") == "Failed" && !object::deleting(pod));
        plan.delete.extend(ended.iter().filter(|pod| !object::deleting(pod)).map(|pod| (*pod).clone()));
        let (leaving, staying): (Vec<&Value>, Vec<&Value>) =
            rest.into_iter().partition(|pod| object::deleting(pod));
        plan.delete.extend(staying.iter().skip(1).map(|pod| (*pod).clone()));
        if !runs {
            counts.misplaced += i64::from(!staying.is_empty());
            continue;
        }
        let pod = staying.first().copied();
        if pod.is_none() && leaving.is_empty() && ended.is_empty() {
            plan.create.push(object::name(node).to_owned());
        }
        counts.note(pod.or(leaving.first().copied()), hash, min_ready, now);
        right.push(pod);
    }
    // Nodes that are gone.
    let lost = by_node.into_values().flatten().filter(|pod| !object::deleting(pod));
    plan.delete.extend(lost.cloned());
    if text(set, "/spec/updateStrategy/type") != "OnDelete" {
        let replaced = outdated(set, &right, hash, (min_ready, now));
        plan.delete.extend(replaced);
    }
    plan.status = counts.status(set);
    plan
}

/// Pods of an older template that go now: as many as may be unavailable, those first that are so already.
fn outdated(
    set: &Value,
    right: &[Option<&Value>],
    hash: &str,
    (min_ready, now): (i64, Timestamp),
) -> Vec<Value> {
    let is_available = |pod: &Value| pods::is_available(pod, min_ready, now);
    let most = &set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"];
    let most = if most.is_null() { 1 } else { percent::of(most, right.len() as i64, true) }.max(1);
    let is_old = |pod: &&Value| pod["metadata"]["labels"][revisions::HASH] != hash;
    let unavailable = right.iter().filter(|pod| !pod.is_some_and(is_available)).count() as i64;
    let old: Vec<&Value> = right.iter().flatten().copied().filter(is_old).collect();
    let (there, missing): (Vec<&Value>, Vec<&Value>) = old.into_iter().partition(|pod| is_available(pod));
    let room = usize::try_from(most - unavailable).unwrap_or(0);
    missing.into_iter().chain(there.into_iter().take(room)).cloned().collect()
}

#[derive(Default)]
struct Counts {
    desired: i64,
    scheduled: i64,
    misplaced: i64,
    ready: i64,
    available: i64,
    updated: i64,
}

impl Counts {
    fn note(&mut self, pod: Option<&Value>, hash: &str, min_ready: i64, now: Timestamp) {
        self.desired += 1;
        let Some(pod) = pod else { return };
        self.scheduled += 1;
        self.ready += i64::from(pods::is_ready(pod));
        self.available += i64::from(pods::is_available(pod, min_ready, now));
        self.updated += i64::from(pod["metadata"]["labels"][revisions::HASH] == hash);
    }

    fn status(&self, set: &Value) -> Value {
        let mut status = json!({
            "currentNumberScheduled": self.scheduled, "desiredNumberScheduled": self.desired,
            "numberMisscheduled": self.misplaced, "numberReady": self.ready,
            "observedGeneration": integer(set, "/metadata/generation").unwrap_or(0),
        });
        for (field, value) in [
            ("updatedNumberScheduled", self.updated),
            ("numberAvailable", self.available),
            ("numberUnavailable", self.desired - self.available),
        ] {
            if value > 0 {
                status[field] = json!(value);
            }
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn set() -> Value {
        json!({"metadata": {"name": "d", "uid": "d", "generation": 1}, "spec": {"template": {"metadata": {"labels": {"app": "a"}},
            "spec": {"nodeSelector": {"edge": "yes"}}}, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}}})
    }

    fn node(name: &str, edge: &str) -> Value {
        json!({"metadata": {"name": name, "labels": {"edge": edge}}})
    }

    fn on(node: &str, hash: &str, ready: bool) -> Value {
        let mut pod = super::pod(&set(), node, hash);
        pod["metadata"]["name"] = json!(format!("{node}-{hash}"));
        pod["spec"]["nodeName"] = json!(node);
        pod["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]});
        pod
    }

    #[test]
    fn each_node_that_fits_gets_one_pod_and_others_none() {
        let nodes = [node("a", "yes"), node("b", "yes"), node("c", "no")];
        let plan = plan(
            &set(),
            &[on("a", "1", true), on("c", "1", true), on("gone", "1", true)],
            &nodes,
            "1",
            now(),
        );
        assert_eq!(plan.create, ["b"]);
        assert_eq!(plan.delete.iter().map(object::name).collect::<Vec<_>>(), ["c-1", "gone-1"]);
        assert_eq!(
            (&plan.status["desiredNumberScheduled"], &plan.status["numberMisscheduled"]),
            (&json!(2), &json!(1))
        );
        assert_eq!((&plan.status["numberReady"], &plan.status["numberUnavailable"]), (&json!(1), &json!(1)));
    }

    #[test]
    fn a_cordoned_or_silent_node_keeps_its_pod_and_a_tainted_one_does_not() {
        let mut silent = node("a", "yes");
        silent["spec"]["taints"] = json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
            {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]);
        assert!(plan(&set(), &[on("a", "1", true)], &[silent.clone()], "1", now()).delete.is_empty());
        silent["spec"]["taints"] = json!([{"key": "maintenance", "effect": "NoSchedule"}]);
        let stays = plan(&set(), &[on("a", "1", true)], &[silent.clone()], "1", now());
        assert_eq!(
            (stays.delete.len(), plan(&set(), &[], &[silent.clone()], "1", now()).create.len()),
            (0, 0)
        );
        silent["spec"]["taints"] = json!([{"key": "maintenance", "effect": "NoExecute"}]);
        assert_eq!(plan(&set(), &[on("a", "1", true)], &[silent], "1", now()).delete.len(), 1);
    }

    #[test]
    fn a_new_template_replaces_one_pod_at_a_time_and_the_unavailable_first() {
        let nodes = [node("a", "yes"), node("b", "yes"), node("c", "yes")];
        let all = [on("a", "1", true), on("b", "1", true), on("c", "1", true)];
        assert_eq!(plan(&set(), &all, &nodes, "2", now()).delete.len(), 1);
        let some = [on("a", "2", false), on("b", "1", true), on("c", "1", true)];
        assert!(
            plan(&set(), &some, &nodes, "2", now()).delete.is_empty(),
            "the new one is not available yet"
        );
        let broken = [on("a", "1", false), on("b", "1", true), on("c", "2", true)];
        let gone = plan(&set(), &broken, &nodes, "2", now()).delete;
        assert_eq!(gone.iter().map(object::name).collect::<Vec<_>>(), ["a-1"]);
        let mut manual = set();
        manual["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
        assert!(plan(&manual, &all, &nodes, "2", now()).delete.is_empty());
    }

    #[test]
    fn a_failed_pod_goes_before_another_comes() {
        let mut failed = on("a", "1", false);
        failed["status"]["phase"] = json!("Failed");
        let plan = plan(&set(), &[failed], &[node("a", "yes")], "1", now());
        assert!(plan.failed && plan.create.is_empty() && plan.delete.len() == 1);
    }

    #[test]
    fn a_pod_is_for_its_node_in_every_term() {
        let mut set = set();
        let terms = json!([{"matchExpressions": [{"key": "x", "operator": "Exists"}]}, {"matchExpressions": [{"key": "y", "operator": "Exists"}]}]);
        set["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            ["nodeSelectorTerms"] = terms;
        let pod = pod(&set, "n1", "h");
        assert!(placement::selects(
            &pod["spec"],
            &json!({"metadata": {"name": "n1", "labels": {"edge": "yes", "y": ""}}})
        ));
        assert!(!placement::selects(
            &pod["spec"],
            &json!({"metadata": {"name": "n2", "labels": {"edge": "yes", "y": ""}}})
        ));
    }
}
