//! Room for a pod that fits nowhere: pods of lower priority go from one node (`pkg/scheduler/framework/preemption`).
//!
//! What the pod asks of other pods (affinity, spread) is looked at as it is before they go.

use std::sync::Arc;

use apimachinery::LabelSelector;
use apimachinery::object::{self, integer, text};
use controllers::cache::Cache;
use serde_json::Value;

use crate::facts::Facts;
use crate::filter::{self, Candidate};
use crate::nodes::Node;

/// A PodDisruptionBudget.
pub(crate) struct Budget {
    namespace: String,
    selector: LabelSelector,
    allowed: i64,
}

/// All budgets, with how many pods each lets go now.
pub(crate) fn budgets(cache: &Cache) -> Vec<Budget> {
    let all = cache.store(&apimachinery::kinds::lines::PodDisruptionBudget).values("");
    let read = all.into_iter().filter(|budget| !budget["spec"]["selector"].is_null()).filter_map(|budget| {
        Some(Budget {
            namespace: object::namespace(&budget).to_owned(),
            selector: LabelSelector::of_object(&budget["spec"]["selector"], "spec.selector").ok()?,
            allowed: integer(&budget, "/status/disruptionsAllowed").unwrap_or(0),
        })
    });
    read.collect()
}

/// The pods that have to go from a node, the most important one first.
#[derive(Debug)]
pub(crate) struct Victims {
    /// The place of the node.
    pub at: usize,
    pub pods: Vec<Arc<Facts>>,
    /// Those of them whose budget does not let them go.
    violating: usize,
}

/// True if others may go for this pod: it has not asked for that before where pods are going already.
pub(crate) fn may(candidate: &Candidate<'_>, nodes: &[Node]) -> bool {
    let pod = candidate.pod;
    if text(pod, "/spec/preemptionPolicy") == "Never" {
        return false;
    }
    let nominated = text(pod, "/status/nominatedNodeName");
    let goes = |other: &Arc<Facts>| other.leaving && other.priority < candidate.facts.priority;
    !nodes.iter().any(|node| node.name() == nominated && node.pods.iter().any(goes))
}

/// The node from which the least has to go; `None`: it would help nowhere.
pub(crate) fn choose(candidate: &Candidate<'_>, nodes: &[Node], budgets: &[Budget]) -> Option<Victims> {
    let found = nodes.iter().enumerate().filter_map(|(at, node)| victims(candidate, at, node, budgets));
    found.min_by_key(|victims| {
        let highest = victims.pods.first().map_or(i64::MIN, |pod| pod.priority);
        let sum: i64 = victims.pods.iter().map(|pod| pod.priority + i64::from(i32::MAX) + 1).sum();
        let started = victims.pods.iter().filter(|pod| pod.priority == highest).map(|pod| pod.since.clone());
        // Of equals, the one whose pods have run for the shortest time.
        let latest = std::cmp::Reverse(started.min().unwrap_or_default());
        (victims.violating, highest, sum, victims.pods.len(), latest)
    })
}

/// Which of the less important pods of a node have to go: all, and then those come back, in the order of their importance,
/// with which the pod fits all the same.
fn victims(candidate: &Candidate<'_>, at: usize, node: &Node, budgets: &[Budget]) -> Option<Victims> {
    let (mut less, rest): (Vec<Arc<Facts>>, Vec<Arc<Facts>>) =
        node.pods.iter().cloned().partition(|pod| pod.priority < candidate.facts.priority);
    if less.is_empty() {
        return None;
    }
    let mut left = Node::new(node.object.clone());
    rest.into_iter().for_each(|pod| left.take(pod));
    if !filter::reasons(candidate, &left).is_empty() {
        return None;
    }
    less.sort_by(|a, b| (-a.priority, &a.since, &a.name).cmp(&(-b.priority, &b.since, &b.name)));
    let (violating, others) = divided(less, budgets);
    let mut pods = Vec::new();
    let mut count = 0;
    for (pod, violates) in
        violating.into_iter().map(|pod| (pod, true)).chain(others.into_iter().map(|pod| (pod, false)))
    {
        let mut with = left.clone();
        with.take(pod.clone());
        match filter::reasons(candidate, &with).is_empty() {
            true => left = with,
            false => {
                count += usize::from(violates);
                pods.push(pod);
            }
        }
    }
    pods.sort_by_key(|pod| -pod.priority);
    Some(Victims { at, pods, violating: count })
}

/// Pods whose budget does not let them go, and the others.
fn divided(pods: Vec<Arc<Facts>>, budgets: &[Budget]) -> (Vec<Arc<Facts>>, Vec<Arc<Facts>>) {
    let mut left: Vec<i64> = budgets.iter().map(|budget| budget.allowed).collect();
    pods.into_iter().partition(|pod| {
        let mut violates = false;
        for (budget, left) in budgets.iter().zip(&mut left) {
            if budget.namespace == pod.namespace
                && !pod.labels.is_empty()
                && budget.selector.matches(&pod.labels)
            {
                *left -= 1;
                violates |= *left < 0;
            }
        }
        violates
    })
}

/// What is left of a pod that has to go, for whoever deletes it.
pub(crate) fn reference(pod: &Facts) -> Value {
    serde_json::json!({"metadata": {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid}})
}
