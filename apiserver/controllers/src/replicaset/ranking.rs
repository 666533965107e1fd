//! Which pods go first when there are too many (`ActivePodsWithRanks` of `pkg/controller/controller_utils.go`).

use std::cmp::Reverse;
use std::collections::HashMap;

use apimachinery::object::text;
use serde_json::Value;

use crate::{conditions, pods};

const COST: &str = "/metadata/annotations/controller.kubernetes.io~1pod-deletion-cost";

/// The first is deleted first.
pub(super) fn sort(active: &mut [&Value], related: &dyn Fn(&str) -> usize) {
    let mut counted: HashMap<String, usize> = HashMap::new();
    active.sort_by_cached_key(|pod| {
        let node = pods::node(pod);
        let on_node = *counted.entry(node.to_owned()).or_insert_with(|| related(node));
        rank(pod, on_node)
    });
}

type Rank = (bool, u8, bool, i64, Reverse<usize>, Reverse<String>, Reverse<i64>, Reverse<String>);

fn rank(pod: &Value, on_node: usize) -> Rank {
    let phase = match text(pod, "/status/phase") {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let ready = conditions::find(pod, "Ready").filter(|ready| ready["status"] == "True");
    // RFC 3339 in UTC sorts as text; what is ready without a time counts as new.
    let since = ready.map(|ready| text(ready, "/lastTransitionTime").to_owned()).unwrap_or_default();
    (
        !pods::node(pod).is_empty(),
        phase,
        ready.is_some(),
        text(pod, COST).parse().unwrap_or(0),
        Reverse(on_node),
        Reverse(since),
        Reverse(pods::restarts(pod)),
        Reverse(text(pod, "/metadata/creationTimestamp").to_owned()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, node: &str, ready: &str, cost: &str) -> Value {
        json!({"metadata": {"name": name, "annotations": {"controller.kubernetes.io/pod-deletion-cost": cost}},
            "spec": {"nodeName": node}, "status": {"phase": if node.is_empty() { "Pending" } else { "Running" },
            "conditions": [{"type": "Ready", "status": if ready.is_empty() { "False" } else { "True" }, "lastTransitionTime": ready}]}})
    }

    #[test]
    fn unassigned_then_unready_then_cheap_then_crowded_then_young_pods_go_first() {
        let all = [
            pod("old", "b", "2026-01-01T00:00:00Z", "0"),
            pod("young", "b", "2026-01-02T00:00:00Z", "0"),
            pod("crowded", "a", "2026-01-01T00:00:00Z", "0"),
            pod("cheap", "b", "2026-01-01T00:00:00Z", "-5"),
            pod("unready", "b", "", "9"),
            pod("unassigned", "", "", "9"),
        ];
        let mut sorted: Vec<&Value> = all.iter().collect();
        sort(&mut sorted, &|node| if node == "a" { 2 } else { 1 });
        let names: Vec<&str> = sorted.iter().map(|pod| text(pod, "/metadata/name")).collect();
        assert_eq!(names, ["unassigned", "unready", "cheap", "crowded", "young", "old"]);
    }
}
