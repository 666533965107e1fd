//! What of the objects that a node sends is its own to say. Pure.

use api::refused::SIGNED_BY;
use message::{Json, NodeName, Status};
use serde_json::{Value, json};

/// Domains whose labels belong to Kubernetes. Of these a node may set a few (Kubernetes' admission plugin NodeRestriction,
/// which CloudCore's own rights pass by); those of all other domains but one are its own affair.
const KUBERNETES: [&str; 2] = ["kubernetes.io", "k8s.io"];
/// Labels that only administrators give to nodes.
const ADMINISTRATORS: &str = "node-restriction.kubernetes.io";
/// Domains of Kubernetes that are a node's own.
const NODES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
const ALLOWED: [&str; 13] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "node.kubernetes.io/instance-type",
    // As KubeEdge's edges register themselves.
    "node-role.kubernetes.io/agent",
    "node-role.kubernetes.io/edge",
];

/// Whether `node` may give itself the label.
fn is_own_label(node: &NodeName, label: &str, value: &Value) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let is_in =
        |above: &str| domain == above || domain.strip_suffix(above).is_some_and(|left| left.ends_with('.'));
    if label.starts_with('$') || is_in(ADMINISTRATORS) {
        return false;
    }
    if label == "kubernetes.io/hostname" {
        return value == node.as_str();
    }
    !KUBERNETES.into_iter().any(is_in) || NODES.into_iter().any(is_in) || ALLOWED.contains(&label)
}

/// The part of a node object that an edge may change besides its status.
pub(super) fn labels_and_annotations(object: &Json, name: &NodeName) -> Result<String, Status> {
    let node = own_labels(object, name)?;
    let mut own = json!({"metadata": {}});
    for field in ["labels", "annotations"] {
        // A null would take away what others gave.
        if node["metadata"][field].is_object() {
            own["metadata"][field] = node["metadata"][field].clone();
        }
    }
    Ok(own.to_string())
}

/// What a node may say of itself beside spec and status.
const METADATA: [&str; 5] = ["annotations", "labels", "name", "resourceVersion", "uid"];

/// A node, or a patch of one, without labels that are not the node's to give, without owners and finalizers, and without
/// what would take labels away: directives of strategic merge patches, and labels that are none.
pub(super) fn own_labels(object: &Json, name: &NodeName) -> Result<Value, Status> {
    let mut node: Value = object.parse().map_err(|error| bad_request(&error.to_string()))?;
    let Some(fields) = node.as_object_mut() else { return Err(bad_request("not an object")) };
    fields.retain(|name, _| !name.starts_with('$'));
    fields.retain(|name, value| name != "metadata" || value.is_object());
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, value| {
            METADATA.contains(&name.as_str()) && (name != "labels" || value.is_object())
        });
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|name, _| name != SIGNED_BY);
        }
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.retain(|label, value| is_own_label(name, label, value));
        }
    }
    Ok(node)
}

/// The object under the name that was authorised, whatever it calls itself.
pub(super) fn named(mut object: Value, name: &str) -> Result<Json, Status> {
    if !object.is_object() || !(object["metadata"].is_object() || object["metadata"].is_null()) {
        return Err(bad_request("not an object with metadata"));
    }
    object["metadata"]["name"] = name.into();
    Ok(Json::of(&object))
}

/// A patch of a pod's status, and of nothing else: the API server would take labels as well.
pub(super) fn status_only(patch: &str) -> Result<String, Status> {
    let patch: Value = json_of(patch)?.parse().map_err(|error| bad_request(&error.to_string()))?;
    let mut own = json!({"status": patch["status"]});
    if let Some(uid) = patch["metadata"]["uid"].as_str() {
        own["metadata"]["uid"] = uid.into();
    }
    Ok(own.to_string())
}

/// The text of a patch.
pub(super) fn json_of(text: &str) -> Result<Json, Status> {
    Json::from_text(text.to_owned()).map_err(|error| bad_request(&error.to_string()))
}

pub(super) fn bad_request(text: &str) -> Status {
    Status::new(400, "BadRequest", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_nodes_to_change_is_left_out() {
        let name = NodeName::new("e1").unwrap();
        let own_labels = |object: &Json| own_labels(object, &name);
        let node = json!({"metadata": {"name": "e1", "finalizers": ["x.example/stay"],
            "ownerReferences": [{"kind": "ReplicaSet"}], "labels": {"node-restriction.kubernetes.io/secure": "yes",
            "node-role.kubernetes.io/edge": ""}}, "status": {"phase": "x"}});
        let expected = json!({"metadata": {"name": "e1", "labels": {"node-role.kubernetes.io/edge": ""}},
            "status": {"phase": "x"}});
        assert_eq!(own_labels(&Json::of(&node)).unwrap(), expected);
        let without = json!({"status": {"phase": "x"}});
        assert_eq!(own_labels(&Json::of(&without)).unwrap(), without);

        for taking in [
            json!({"metadata": null}),
            json!({"metadata": {"labels": null}}),
            json!({"$patch": "replace", "metadata": {"$patch": "delete", "labels": {"$patch": "replace"}}}),
        ] {
            let kept = own_labels(&Json::of(&taking)).unwrap();
            assert!(!kept.to_string().contains('$') && !kept.to_string().contains("null"), "{kept}");
        }
        let updated = labels_and_annotations(&Json::of(&node), &name).unwrap();
        assert_eq!(updated, r#"{"metadata":{"labels":{"node-role.kubernetes.io/edge":""}}}"#);

        let other: Value = named(json!({"metadata": {"name": "e2"}}), "e1").unwrap().parse().unwrap();
        assert_eq!(other["metadata"]["name"], "e1");
        assert!(named(json!([]), "e1").is_err() && named(json!({"metadata": "x"}), "e1").is_err());

        let patch = json!({"metadata": {"uid": "u", "labels": {"app": "bank"}}, "spec": {"x": 1},
            "status": {"phase": "Running", "$setElementOrder/conditions": []}});
        let kept: Value = serde_json::from_str(&status_only(&patch.to_string()).unwrap()).unwrap();
        let status = patch["status"].clone();
        assert_eq!(kept, json!({"metadata": {"uid": "u"}, "status": status}));
        assert!(status_only("{").is_err());
    }

    #[test]
    fn labels_of_kubernetes_are_a_nodes_own_if_the_kubelet_may_set_them() {
        let node = NodeName::new("e1").unwrap();
        let own = |label: &str, value: &str| is_own_label(&node, label, &value.into());
        for label in [
            "pool",
            "acme.example/line",
            "topology.kubernetes.io/zone",
            "kubelet.kubernetes.io/x",
            "cpu.node.kubernetes.io/x",
            "node-role.kubernetes.io/edge",
            "mykubernetes.io/x",
        ] {
            assert!(own(label, "a"), "{label}");
        }
        for label in [
            "node-role.kubernetes.io/control-plane",
            "kubernetes.io/role",
            "x.k8s.io/y",
            "k8s.io/y",
            "a.node-restriction.kubernetes.io/b",
            "$patch",
        ] {
            assert!(!own(label, "a"), "{label}");
        }
        assert!(own("kubernetes.io/hostname", "e1") && !own("kubernetes.io/hostname", "e2"));
    }
}
