//! Why a pod cannot be on a node, in kube-scheduler's words and order; the first reason counts (`pkg/scheduler/framework/plugins`).

use std::collections::BTreeMap;

use apimachinery::object::{integer, list, text};
use controllers::placement;
use serde_json::{Value, json};

use crate::affinity::Affinity;
use crate::facts::Facts;
use crate::nodes::Node;
use crate::spread::Spread;
use crate::volumes::Volumes;

/// A pod that is to get a node, with what was computed once for all nodes.
pub(crate) struct Candidate<'a> {
    pub pod: &'a Value,
    pub facts: Facts,
    pub affinity: Affinity,
    pub spread: Spread,
    pub volumes: Volumes,
}

/// Nothing: the pod fits.
pub(crate) fn reasons(candidate: &Candidate<'_>, node: &Node) -> Vec<String> {
    let one = |reason: Option<String>| reason.into_iter().collect::<Vec<_>>();
    let checks: [&dyn Fn() -> Vec<String>; 6] = [
        &|| one(place(candidate, node)),
        &|| one(ports(candidate, node)),
        &|| resources(candidate, node),
        &|| one(candidate.volumes.reason(node)),
        &|| one(candidate.spread.reason(node)),
        &|| one(candidate.affinity.reason(node)),
    ];
    checks.iter().map(|check| check()).find(|found| !found.is_empty()).unwrap_or_default()
}

fn place(candidate: &Candidate<'_>, node: &Node) -> Option<String> {
    let spec = &candidate.pod["spec"];
    let tolerations = list(spec, "/tolerations");
    let cordon = json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
    let is_cordoned = node.object["spec"]["unschedulable"] == true;
    if is_cordoned && !tolerations.iter().any(|one| placement::tolerates(one, &cordon)) {
        return Some("node(s) were unschedulable".to_owned());
    }
    let taints = list(&node.object, "/spec/taints");
    if let Some(taint) = placement::untolerated(tolerations, taints, &["NoSchedule", "NoExecute"]) {
        let (key, value) = (text(taint, "/key"), text(taint, "/value"));
        return Some(format!("node(s) had untolerated taint {{{key}: {value}}}"));
    }
    let is_selected = placement::selects(spec, &node.object);
    (!is_selected).then(|| "node(s) didn't match Pod's node affinity/selector".to_owned())
}

fn ports(candidate: &Candidate<'_>, node: &Node) -> Option<String> {
    let any = |address: &str| address == "0.0.0.0" || address == "::";
    let taken = || node.pods.iter().flat_map(|pod| &pod.ports);
    let is_taken = candidate.facts.ports.iter().any(|(address, protocol, port)| {
        taken().any(|(other, same, number)| {
            number == port && same == protocol && (other == address || any(other) || any(address))
        })
    });
    is_taken.then(|| "node(s) didn't have free ports for the requested pod ports".to_owned())
}

fn resources(candidate: &Candidate<'_>, node: &Node) -> Vec<String> {
    let mut reasons = Vec::new();
    let most = node.offers.get("pods").copied().unwrap_or(0);
    if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= most {
        reasons.push("Too many pods".to_owned());
    }
    for (name, asked) in candidate.facts.requests.iter().filter(|(_, asked)| **asked > 0) {
        let free = node.offers.get(name).copied().unwrap_or(0) - node.taken.get(name).copied().unwrap_or(0);
        if *asked > free {
            reasons.push(format!("Insufficient {name}"));
        }
    }
    reasons
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
pub(crate) fn message(nodes: usize, reasons: impl Iterator<Item = String>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    reasons.for_each(|reason| *counts.entry(reason).or_default() += 1);
    let mut counted: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    counted.sort();
    format!("0/{nodes} nodes are available: {}.", counted.join(", "))
}

/// The priority of a pod; 0 is usual.
pub(crate) fn priority(pod: &Value) -> i64 {
    integer(pod, "/spec/priority").unwrap_or(0)
}
