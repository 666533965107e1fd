//! What is to be done for a StatefulSet: one step at a time if it is ordered (`stateful_set_control.go`); pure.

use std::collections::BTreeMap;

use apimachinery::object::{self, integer, text};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::pod::ordinal;
use crate::{pods, revisions};

#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Number, and name of the revision.
    pub create: Vec<(i64, String)>,
    pub delete: Vec<Value>,
    pub status: Value,
}

struct Set<'a> {
    set: &'a Value,
    /// By their number.
    pods: BTreeMap<i64, &'a Value>,
    first: i64,
    replicas: i64,
    is_ordered: bool,
    /// Names of revisions.
    current: &'a str,
    update: &'a str,
    now: Timestamp,
}

/// `own` are its pods; then the names of the revisions that it is at and that it is to get to.
pub fn plan(set: &Value, own: &[Value], (current, update): (&str, &str), now: Timestamp) -> Plan {
    let pods = own.iter().filter_map(|pod| Some((ordinal(set, pod)?, pod))).collect();
    let set = Set {
        set,
        pods,
        first: integer(set, "/spec/ordinals/start").unwrap_or(0),
        replicas: integer(set, "/spec/replicas").unwrap_or(1).max(0),
        is_ordered: text(set, "/spec/podManagementPolicy") != "Parallel",
        current,
        update,
        now,
    };
    let mut plan = Plan { status: set.status(), ..Plan::default() };
    if set.grow(&mut plan) && set.shrink(&mut plan) {
        set.renew(&mut plan);
    }
    plan
}

impl Set<'_> {
    fn numbers(&self) -> std::ops::Range<i64> {
        self.first..self.first + self.replicas
    }

    fn revision<'b>(&self, pod: &'b Value) -> &'b str {
        pod["metadata"]["labels"][revisions::HASH].as_str().unwrap_or_default()
    }

    fn is_healthy(&self, pod: &Value) -> bool {
        let min_ready = integer(self.set, "/spec/minReadySeconds").unwrap_or(0);
        text(pod, "/status/phase") == "Running"
            && !object::deleting(pod)
            && pods::is_available(pod, min_ready, self.now)
    }

    fn is_rolling(&self) -> bool {
        text(self.set, "/spec/updateStrategy/type") != "OnDelete"
    }

    fn partition(&self) -> Option<i64> {
        integer(self.set, "/spec/updateStrategy/rollingUpdate/partition")
    }

    /// The revision of a pod that is made now.
    fn revision_of(&self, number: i64) -> &str {
        let count = match self.partition() {
            None | Some(0) => integer(self.set, "/status/currentReplicas").unwrap_or(0),
            Some(partition) => partition,
        };
        let keeps = self.is_rolling() && number < self.first + count;
        if keeps { self.current } else { self.update }
    }

    /// False: it waits for something.
    fn grow(&self, plan: &mut Plan) -> bool {
        for number in self.numbers() {
            match self.pods.get(&number) {
                None => {
                    plan.create.push((number, self.revision_of(number).to_owned()));
                    if self.is_ordered {
                        return false;
                    }
                }
                Some(pod) if pods::is_finished(pod) && !object::deleting(pod) => {
                    plan.delete.push((*pod).clone());
                    if self.is_ordered {
                        return false;
                    }
                }
                Some(pod) if self.is_ordered && !self.is_healthy(pod) => return false,
                Some(_) => {}
            }
        }
        true
    }

    /// The highest number goes first.
    fn shrink(&self, plan: &mut Plan) -> bool {
        let mut is_done = true;
        for (_, pod) in self.pods.iter().rev().filter(|(number, _)| !self.numbers().contains(number)) {
            is_done = false;
            if object::deleting(pod) {
                if self.is_ordered {
                    return false;
                }
                continue;
            }
            plan.delete.push((*pod).clone());
            if self.is_ordered {
                return false;
            }
        }
        is_done
    }

    /// Replaces pods of the old template, the highest number first, each when those above it are healthy.
    fn renew(&self, plan: &mut Plan) {
        if !self.is_rolling() {
            return;
        }
        let least = self.first + self.partition().unwrap_or(0);
        for number in self.numbers().rev().take_while(|number| *number >= least) {
            let Some(pod) = self.pods.get(&number) else { return };
            if self.revision(pod) != self.update && !object::deleting(pod) {
                plan.delete.push((*pod).clone());
                return;
            }
            if !self.is_healthy(pod) {
                return;
            }
        }
    }

    fn status(&self) -> Value {
        let live = || self.pods.values().filter(|pod| !object::deleting(pod));
        let min_ready = integer(self.set, "/spec/minReadySeconds").unwrap_or(0);
        let ready =
            self.pods.values().filter(|pod| text(pod, "/status/phase") == "Running" && pods::is_ready(pod));
        let available =
            ready.clone().filter(|pod| pods::is_available(pod, min_ready, self.now)).count() as i64;
        let (replicas, ready) = (self.pods.len() as i64, ready.count() as i64);
        let mut currents = live().filter(|pod| self.revision(pod) == self.current).count() as i64;
        let updated = live().filter(|pod| self.revision(pod) == self.update).count() as i64;
        let mut current = self.current;
        if self.is_rolling() && updated == replicas && ready == replicas && replicas == self.replicas {
            (current, currents) = (self.update, updated);
        }
        let mut status = json!({
            "observedGeneration": integer(self.set, "/metadata/generation").unwrap_or(0),
            "replicas": replicas, "availableReplicas": available, "currentRevision": current, "updateRevision": self.update,
            "collisionCount": integer(self.set, "/status/collisionCount").unwrap_or(0),
        });
        for (field, value) in
            [("readyReplicas", ready), ("currentReplicas", currents), ("updatedReplicas", updated)]
        {
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

    fn set(replicas: i64, policy: &str, partition: i64) -> Value {
        json!({"metadata": {"name": "s", "generation": 1}, "spec": {"replicas": replicas, "podManagementPolicy": policy,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}},
            "status": {"currentReplicas": replicas}})
    }

    fn pod(number: i64, revision: &str, ready: bool) -> Value {
        json!({"metadata": {"name": format!("s-{number}"), "labels": {revisions::HASH: revision}},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}})
    }

    fn deleted(plan: &Plan) -> Vec<&str> {
        plan.delete.iter().map(object::name).collect()
    }

    #[test]
    fn an_ordered_set_makes_the_next_pod_once_the_last_is_ready() {
        let set = set(3, "OrderedReady", 0);
        let made = |own: &[Value]| {
            plan(&set, own, ("a", "a"), now()).create.into_iter().map(|(at, _)| at).collect::<Vec<_>>()
        };
        assert_eq!(made(&[]), [0]);
        assert!(made(&[pod(0, "a", false)]).is_empty());
        assert_eq!(made(&[pod(0, "a", true)]), [1]);
    }

    #[test]
    fn a_parallel_set_makes_all_at_once() {
        assert_eq!(plan(&set(3, "Parallel", 0), &[], ("a", "a"), now()).create.len(), 3);
    }

    #[test]
    fn the_highest_number_goes_first_one_at_a_time() {
        let all = [pod(0, "a", true), pod(1, "a", true), pod(2, "a", true)];
        assert_eq!(deleted(&plan(&set(1, "OrderedReady", 0), &all, ("a", "a"), now())), ["s-2"]);
        assert_eq!(deleted(&plan(&set(1, "Parallel", 0), &all, ("a", "a"), now())), ["s-2", "s-1"]);
    }

    #[test]
    fn a_rollout_goes_down_to_the_partition_and_waits_for_each_pod() {
        let all = |one: Value, two: Value| [pod(0, "a", true), one, two];
        let next = |own: &[Value]| plan(&set(3, "OrderedReady", 1), own, ("a", "b"), now());
        assert_eq!(deleted(&next(&all(pod(1, "a", true), pod(2, "a", true)))), ["s-2"]);
        assert!(deleted(&next(&all(pod(1, "a", true), pod(2, "b", false)))).is_empty());
        assert_eq!(deleted(&next(&all(pod(1, "a", true), pod(2, "b", true)))), ["s-1"]);
        let last = next(&all(pod(1, "b", true), pod(2, "b", true)));
        assert!(last.delete.is_empty());
        assert_eq!(
            (&last.status["currentRevision"], &last.status["updatedReplicas"]),
            (&json!("a"), &json!(2))
        );
        let missing = next(&[pod(1, "b", true), pod(2, "b", true)]);
        assert_eq!(missing.create, [(0, "a".to_owned())], "below the partition the old template holds");
    }

    #[test]
    fn a_finished_rollout_makes_its_revision_the_current_one() {
        let all = [pod(0, "b", true), pod(1, "b", true)];
        let status = plan(&set(2, "OrderedReady", 0), &all, ("a", "b"), now()).status;
        assert_eq!((&status["currentRevision"], &status["currentReplicas"]), (&json!("b"), &json!(2)));
    }

    #[test]
    fn a_pod_that_ended_is_replaced() {
        let mut ended = pod(0, "a", false);
        ended["status"]["phase"] = json!("Failed");
        let plan = plan(&set(2, "OrderedReady", 0), &[ended], ("a", "a"), now());
        assert_eq!((deleted(&plan), plan.create.len()), (vec!["s-0"], 0));
    }
}
