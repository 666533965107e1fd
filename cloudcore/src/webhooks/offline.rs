//! Changes of pods that their node does not hear of, because its link is lost: who makes them is warned or refused. Pure.

use apimachinery::Status;
use apimachinery::webhooks::{Answer, Verdict};
use serde_json::Value;

/// What becomes of such a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offline {
    Ignore,
    Warn,
    Deny,
}

impl Offline {
    /// As in the configuration file and in the label of a namespace.
    pub fn parse(text: &str) -> Option<Offline> {
        [Offline::Ignore, Offline::Warn, Offline::Deny].into_iter().find(|offline| offline.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Offline::Ignore => "ignore",
            Offline::Warn => "warn",
            Offline::Deny => "deny",
        }
    }
}

/// A namespace says by it what becomes of such changes there.
pub(super) const LABEL: &str = "causeway.io/offline-changes";

/// Whose changes are never held up: they read no messages, and carry on what others have decided. Nodes; the controllers of
/// Kubernetes, such as the garbage collector and the namespace controller; its other parts; CloudCore in a cluster.
const NEVER: [&str; 4] = [
    "system:node:",
    "system:serviceaccount:kube-system:",
    "system:kube-",
    "system:serviceaccount:kubeedge:cloudcore",
];

pub(super) fn answer(request: &Value, mode: Offline, is_lost: impl Fn(&str) -> bool) -> Answer {
    let (user, pod) = (request["userInfo"]["username"].as_str().unwrap_or_default(), &request["oldObject"]);
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    let is_held = !node.is_empty()
        && is_lost(node)
        && !NEVER.iter().any(|begin| user.starts_with(begin))
        && matters(request);
    if !is_held {
        return Answer::allowed();
    }
    let message = message(request, node);
    match mode {
        Offline::Ignore => Answer::allowed(),
        Offline::Warn => Answer { warnings: vec![message], ..Answer::allowed() },
        Offline::Deny => {
            Answer { verdict: Verdict::Denied(Status::new(403, "Forbidden", message)), ..Answer::allowed() }
        }
    }
}

/// False for what changes nothing on the node: how long Kubernetes waits for it, and the end of a pod that is being deleted.
fn matters(request: &Value) -> bool {
    let (old, new) = (&request["oldObject"], &request["object"]);
    match request["operation"].as_str() {
        Some("DELETE") => true,
        Some("UPDATE") => !old["metadata"]["deletionTimestamp"].is_string() && essence(old) != essence(new),
        _ => false,
    }
}

/// A pod without what room `autonomy` and bookkeeping change.
fn essence(pod: &Value) -> Value {
    let mut pod = pod.clone();
    if let Some(spec) = pod["spec"].as_object_mut() {
        spec.remove("tolerations");
    }
    if let Some(fields) = pod.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        for bookkeeping in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(bookkeeping);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|name, _| !name.starts_with("apps.openyurt.io/original-"));
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    pod
}

fn message(request: &Value, node: &str) -> String {
    let (namespace, name) =
        (request["namespace"].as_str().unwrap_or_default(), request["name"].as_str().unwrap_or_default());
    let follows = match request["operation"].as_str() {
        Some("DELETE") => {
            "the pod goes on running there, and would run twice if it were started elsewhere, until the link is back"
        }
        _ => "the pod runs there as it is until the link is back",
    };
    format!(
        "node {node} has lost its link to the cloud: {follows}. Wait for the node's condition EdgeLink to be True, or label \
         namespace {namespace} {LABEL}=ignore to change pod {name} all the same"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(operation: &str, user: &str, new: &Value) -> Value {
        json!({"operation": operation, "namespace": "d", "name": "p", "userInfo": {"username": user},
            "oldObject": pod("1"), "object": new})
    }

    fn pod(image: &str) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [{"image": image}]}})
    }

    fn is_denied(request: &Value) -> bool {
        matches!(answer(request, Offline::Deny, |node| node == "n1").verdict, Verdict::Denied(_))
    }

    #[test]
    fn a_change_that_the_node_does_not_hear_of_is_warned_of_or_denied_with_what_to_do() {
        for (operation, told) in [("UPDATE", "as it is until"), ("DELETE", "goes on running")] {
            let request = asked(operation, "ann", &pod("2"));
            let warned = answer(&request, Offline::Warn, |_| true);
            assert_eq!((warned.warnings.len(), &warned.verdict), (1, &Verdict::Allowed));
            let Verdict::Denied(status) = answer(&request, Offline::Deny, |_| true).verdict else { panic!() };
            for part in [told, "node n1", "EdgeLink", "namespace d causeway.io/offline-changes=ignore"] {
                assert!(status.message.contains(part), "{part}: {status}");
            }
            assert_eq!(answer(&request, Offline::Deny, |_| false), Answer::allowed(), "the link is up");
            assert_eq!(answer(&request, Offline::Ignore, |_| true), Answer::allowed());
        }
        let mut unplaced = asked("UPDATE", "ann", &pod("2"));
        unplaced["oldObject"]["spec"] = json!({});
        assert!(!is_denied(&unplaced));
    }

    #[test]
    fn nodes_controllers_and_cloudcore_are_never_denied() {
        for user in [
            "system:node:n1",
            "system:serviceaccount:kube-system:generic-garbage-collector",
            "system:serviceaccount:kube-system:namespace-controller",
            "system:kube-controller-manager",
            "system:serviceaccount:kubeedge:cloudcore",
        ] {
            assert!(!is_denied(&asked("DELETE", user, &Value::Null)), "{user}");
        }
        for user in ["ann", "system:serviceaccount:default:default", "system:admin"] {
            assert!(is_denied(&asked("DELETE", user, &Value::Null)), "{user}");
        }
    }

    #[test]
    fn what_changes_nothing_on_the_node_is_let_through() {
        let mut patient = pod("1");
        patient["spec"]["tolerations"] = json!([{"key": "a"}]);
        patient["metadata"]["annotations"] =
            json!({"apps.openyurt.io/original-not-ready-toleration-duration": "300"});
        patient["metadata"]["resourceVersion"] = json!("7");
        assert!(!is_denied(&asked("UPDATE", "ann", &patient)));
        patient["metadata"]["annotations"] = json!({"mine": "x"});
        assert!(is_denied(&asked("UPDATE", "ann", &patient)));
        let mut ending = asked("UPDATE", "ann", &pod("2"));
        ending["oldObject"]["metadata"]["deletionTimestamp"] = json!("2026-11-30T00:00:00Z");
        assert!(!is_denied(&ending), "its finalizers go");
        assert!(is_denied(&asked("UPDATE", "ann", &pod("2"))));
    }

    #[test]
    fn modes_are_read_as_they_are_written() {
        for mode in [Offline::Ignore, Offline::Warn, Offline::Deny] {
            assert_eq!(Offline::parse(mode.as_str()), Some(mode));
        }
        assert_eq!(Offline::parse("never"), None);
    }
}
