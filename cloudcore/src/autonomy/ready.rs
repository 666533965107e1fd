//! Endpoints of a node that is not heard of: Kubernetes calls all its pods unready, once, when it gives up waiting for the node.

use serde_json::{Value, json};

/// True for a node that Kubernetes has given up waiting for.
pub(super) fn is_lost(node: &Value) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready["status"] == "Unknown")
}

/// True for a pod that was ready when it was last heard of, and does not end.
pub(super) fn was_ready(pod: &Value) -> bool {
    let status = &pod["status"];
    let containers = status["containerStatuses"].as_array().filter(|containers| !containers.is_empty());
    let gates = pod["spec"]["readinessGates"].as_array().into_iter().flatten();
    let is_open = |gate: &Value| {
        let kind = gate["conditionType"].as_str().unwrap_or_default();
        condition(pod, kind).is_some_and(|condition| condition["status"] == "True")
    };
    status["phase"] == "Running"
        && containers.is_some_and(|all| all.iter().all(|container| container["ready"] == true))
        && gates.into_iter().all(is_open)
        && !pod["metadata"]["deletionTimestamp"].is_string()
}

/// The patch of the status of a pod that is called unready although all its containers were ready when they were last heard of.
/// `now` is RFC 3339. `None`: it is ready, or not for Kubernetes' reason.
pub(super) fn patch(pod: &Value, now: &str) -> Option<Value> {
    let told = condition(pod, "Ready")?;
    if told["status"] == "True" || !was_ready(pod) {
        return None;
    }
    Some(json!({"status": {"conditions": [{
        "type": "Ready",
        "status": "True",
        "lastTransitionTime": now,
        "reason": "NodeAutonomy",
        "message": "the node is not heard of and has a policy that leaves its pods alone",
    }]}}))
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_was_ready_stays_so_and_one_that_was_not_does_not_become_so() {
        let pod = |ready: &str, container: bool| {
            json!({"metadata": {"name": "p"}, "spec": {}, "status": {"phase": "Running",
                "conditions": [{"type": "Ready", "status": ready}, {"type": "ContainersReady", "status": "True"}],
                "containerStatuses": [{"name": "a", "ready": true}, {"name": "b", "ready": container}]}})
        };
        let told = patch(&pod("False", true), "now").unwrap();
        assert_eq!(told["status"]["conditions"][0]["status"], "True");
        assert_eq!(patch(&pod("True", true), "now"), None);
        assert_eq!(patch(&pod("False", false), "now"), None, "it crashes");
        for (pointer, value) in [
            ("/status/phase", json!("Failed")),
            ("/metadata/deletionTimestamp", json!("2026-11-30T00:00:00Z")),
            ("/spec/readinessGates", json!([{"conditionType": "lb"}])),
            ("/status/containerStatuses", json!([])),
        ] {
            let mut pod = pod("False", true);
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            pod.pointer_mut(parent).unwrap()[name] = value;
            assert_eq!(patch(&pod, "now"), None, "{pointer}");
        }
    }

    #[test]
    fn a_node_is_lost_when_kubernetes_says_that_it_does_not_know() {
        let node = |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
        assert!(is_lost(&node("Unknown")));
        assert!(!is_lost(&node("False")) && !is_lost(&node("True")) && !is_lost(&json!({})));
    }
}
