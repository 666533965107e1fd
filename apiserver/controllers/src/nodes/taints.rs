//! The taints that follow from a node's conditions; pure.

use apimachinery::object::{list, text};
use serde_json::{Value, json};

use crate::conditions;

pub(super) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// Conditions that keep new pods away, with the status that does.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

fn is_ours(taint: &Value) -> bool {
    let key = text(taint, "/key");
    let pressure = PRESSURES.iter().any(|(_, known)| *known == key);
    match text(taint, "/effect") {
        "NoSchedule" => pressure || matches!(key, NOT_READY | UNREACHABLE | UNSCHEDULABLE),
        "NoExecute" => matches!(key, NOT_READY | UNREACHABLE),
        _ => false,
    }
}

/// The taint for a node that is not ready.
fn unready(node: &Value) -> Option<&'static str> {
    match conditions::find(node, "Ready").map(|ready| text(ready, "/status")) {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        _ => None,
    }
}

/// The taints that a node is to have, if others than it has. `evicts`: pods may be made to leave.
pub(super) fn wanted(node: &Value, evicts: bool, now: &str) -> Option<Vec<Value>> {
    let before = list(node, "/spec/taints");
    let mut keys: Vec<(&str, &str)> = Vec::new();
    if let Some(key) = unready(node) {
        keys.push((key, "NoSchedule"));
        if evicts {
            keys.push((key, "NoExecute"));
        }
    }
    let pressed = PRESSURES.iter().filter(|(kind, _)| conditions::is_true(node, kind));
    keys.extend(pressed.map(|(_, key)| (*key, "NoSchedule")));
    if node["spec"]["unschedulable"] == true {
        keys.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let is_wanted = |taint: &&Value| keys.contains(&(text(taint, "/key"), text(taint, "/effect")));
    let mut after: Vec<Value> =
        before.iter().filter(|taint| !is_ours(taint) || is_wanted(taint)).cloned().collect();
    for (key, effect) in keys {
        let has = |taint: &Value| text(taint, "/key") == key && text(taint, "/effect") == effect;
        if !before.iter().any(has) {
            after.push(json!({"key": key, "effect": effect, "timeAdded": now}));
        }
    }
    (after != before).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: &str, taints: Value) -> Value {
        json!({"spec": {"taints": taints}, "status": {"conditions": [{"type": "Ready", "status": ready}]}})
    }

    fn keys(taints: Option<Vec<Value>>) -> Vec<String> {
        let all = taints.unwrap_or_default();
        all.iter().map(|taint| format!("{}:{}", text(taint, "/key"), text(taint, "/effect"))).collect()
    }

    #[test]
    fn a_node_that_is_not_ready_keeps_pods_away_and_lets_them_go() {
        let other = json!({"key": "mine", "effect": "NoExecute"});
        let unknown = wanted(&node("Unknown", json!([other])), true, "t");
        assert_eq!(
            keys(unknown),
            [
                "mine:NoExecute",
                "node.kubernetes.io/unreachable:NoSchedule",
                "node.kubernetes.io/unreachable:NoExecute"
            ]
        );
        assert_eq!(
            keys(wanted(&node("False", json!([])), false, "t")),
            ["node.kubernetes.io/not-ready:NoSchedule"]
        );
    }

    #[test]
    fn a_ready_node_loses_the_taints_and_keeps_those_of_others() {
        let taints =
            json!([{"key": UNREACHABLE, "effect": "NoExecute"}, {"key": "mine", "effect": "NoSchedule"}]);
        assert_eq!(keys(wanted(&node("True", taints), true, "t")), ["mine:NoSchedule"]);
        assert_eq!(wanted(&node("True", json!([])), true, "t"), None);
    }

    #[test]
    fn a_cordon_and_pressure_are_taints() {
        let mut node = node("True", json!([]));
        node["spec"]["unschedulable"] = json!(true);
        node["status"]["conditions"] = json!([{"type": "DiskPressure", "status": "True"}]);
        assert_eq!(
            keys(wanted(&node, true, "t")),
            ["node.kubernetes.io/disk-pressure:NoSchedule", "node.kubernetes.io/unschedulable:NoSchedule"]
        );
    }
}
