//! Marks and digests: how two ends find what they do not share without sending it.

use message::Json;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::canonical::{Canonical, Fields};
use crate::frames::KindDigest;

/// Hash of what a node should react to: the object without its version, its bookkeeping and what the node itself says in
/// its status. Equal marks need no sending. Never 0, which stands for "not known".
///
/// Nodes keep the marks of what they hold: a change of what is hashed sends every object of every node anew.
pub fn mark(object: &Json) -> u64 {
    let text = serde_json::from_str::<Canonical>(object.text()).and_then(|mut value| {
        forget_bookkeeping(&mut value);
        serde_json::to_string(&value)
    });
    let hash = xxh3_64(text.as_deref().unwrap_or(object.text()).as_bytes());
    hash.max(1)
}

fn forget_bookkeeping(object: &mut Canonical) {
    let foreign = foreign_conditions(object);
    let Some(top) = object.as_object_mut() else { return };
    top.remove("status");
    if !foreign.is_empty() {
        let foreign = foreign.into_iter().map(|condition| Canonical::String(condition.into())).collect();
        top.set("status", Canonical::Array(foreign));
    }
    if let Some(metadata) = top.get_mut("metadata").and_then(Canonical::as_object_mut) {
        for field in ["resourceVersion", "managedFields", "generation"] {
            metadata.remove(field);
        }
        forget_notes(metadata);
    }
}

/// Annotations in which CloudCore writes things down for its operator.
const NOTES: &str = "causeway.io/";

fn forget_notes(metadata: &mut Fields) {
    let Some(annotations) = metadata.get_mut("annotations").and_then(Canonical::as_object_mut) else {
        return;
    };
    annotations.retain(|name| !name.starts_with(NOTES));
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
}

/// Conditions of a pod that its node sets, and nobody else should.
pub const NODES_CONDITIONS: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// What others say in a pod's status: conditions of their own (readiness gates), and that a pod whose containers are
/// ready is not, which Kubernetes says of the pods of a node it has not heard of (controllerutil `MarkPodsNotReady`).
fn foreign_conditions(object: &Canonical) -> Vec<String> {
    if object.field("spec").and_then(|spec| spec.field("containers")).is_none() {
        return Vec::new();
    }
    let conditions = object.field("status").and_then(|status| status.field("conditions"));
    let conditions = conditions.and_then(Canonical::as_array).unwrap_or_default();
    let text = |condition: &Canonical, field: &str| {
        condition.field(field).and_then(Canonical::as_str).unwrap_or_default().to_owned()
    };
    let told: Vec<(String, String, String)> = conditions
        .iter()
        .map(|condition| (text(condition, "type"), text(condition, "status"), text(condition, "reason")))
        .collect();
    let containers_ready = told.iter().any(|(kind, status, _)| kind == "ContainersReady" && status == "True");
    let is_foreign = |(kind, status, reason): &&(String, String, String)| {
        let disowned = kind == "Ready" && status == "False" && reason.is_empty() && containers_ready;
        disowned || !NODES_CONDITIONS.contains(&kind.as_str())
    };
    let mut foreign: Vec<String> =
        told.iter().filter(is_foreign).map(|(kind, status, _)| format!("{kind}={status}")).collect();
    foreign.sort();
    foreign
}

/// Digest of all objects of one kind that an end holds. Adding is commutative: order does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    pub count: u32,
    pub sum: u64,
}

impl Digest {
    pub fn add(&mut self, uid: &str, mark: u64) {
        let mut hash = Xxh3::new();
        hash.update(uid.as_bytes());
        hash.update(&mark.to_be_bytes());
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(hash.digest());
    }

    pub fn of_kind(self, kind: &str) -> KindDigest {
        KindDigest { kind: kind.to_owned(), count: self.count, sum: self.sum }
    }

    pub fn matches(self, theirs: &KindDigest) -> bool {
        self.count == theirs.count && self.sum == theirs.sum
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn json(text: &str) -> Json {
        Json::from_text(text.to_owned()).unwrap()
    }

    #[test]
    fn a_status_or_version_does_not_change_the_mark_and_a_label_does() {
        let plain = mark(&json(r#"{"metadata":{"name":"a","resourceVersion":"1"},"spec":{}}"#));
        let later = json(
            r#"{"spec":{},"metadata":{"resourceVersion":"2","name":"a","managedFields":[1]},"status":{"x":1}}"#,
        );
        assert_eq!(plain, mark(&later));
        let noted = json(r#"{"metadata":{"name":"a","annotations":{"causeway.io/x":"y"}},"spec":{}}"#);
        assert_eq!(plain, mark(&noted));
        let annotated = json(r#"{"metadata":{"name":"a","annotations":{"example.com/x":"y"}},"spec":{}}"#);
        assert_ne!(plain, mark(&annotated));
        let labelled = json(r#"{"metadata":{"name":"a","labels":{"x":"y"}},"spec":{}}"#);
        assert_ne!(plain, mark(&labelled));
    }

    #[test]
    fn only_what_others_say_of_a_pod_changes_its_mark() {
        let pod = |conditions: &[(&str, &str, &str)]| {
            let conditions: Vec<Value> = conditions
                .iter()
                .map(|(kind, status, reason)| {
                    serde_json::json!({"type": kind, "status": status, "reason": reason})
                })
                .collect();
            let pod = serde_json::json!({"metadata": {"name": "a"}, "spec": {"containers": []},
                "status": {"phase": "Running", "conditions": conditions}});
            mark(&json(&pod.to_string()))
        };
        let plain = pod(&[]);
        let ready = [("Ready", "True", ""), ("ContainersReady", "True", "")];
        assert_eq!(pod(&ready), plain);
        let unready = [("Ready", "False", "ContainersNotReady"), ("ContainersReady", "False", "")];
        assert_eq!(pod(&unready), plain);
        let gated = [("Ready", "False", "ReadinessGatesNotReady"), ("ContainersReady", "True", "")];
        assert_eq!(pod(&gated), plain);
        let disowned = [("Ready", "False", ""), ("ContainersReady", "True", "")];
        assert_ne!(pod(&disowned), plain);
        assert_ne!(pod(&[("example.com/gate", "True", "")]), pod(&[("example.com/gate", "False", "")]));
    }

    #[test]
    fn digests_agree_in_any_order_and_differ_when_one_mark_does() {
        let digest = |entries: &[(&str, u64)]| {
            let mut digest = Digest::default();
            entries.iter().for_each(|(uid, mark)| digest.add(uid, *mark));
            digest
        };
        assert_eq!(digest(&[("a", 1), ("b", 2)]), digest(&[("b", 2), ("a", 1)]));
        assert_ne!(digest(&[("a", 1), ("b", 2)]), digest(&[("a", 1), ("b", 3)]));
        assert_ne!(digest(&[("a", 1)]), digest(&[]));
    }
}
