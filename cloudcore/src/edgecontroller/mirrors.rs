//! Mirrors of static pods, which nodes make themselves: what they may have in them. Pure.

use message::NodeName;
use serde_json::Value;

/// A mirror pod names the node and carries the mirror annotation. It refers to nothing: a node that could make a pod
/// with a secret of its choice could read every secret (the rule of Kubernetes' NodeRestriction).
pub fn is_mirror_of(pod: &Value, node: &NodeName, namespace: &str, name: &str) -> bool {
    let meta = &pod["metadata"];
    let mirror = meta["annotations"]["kubernetes.io/config.mirror"].is_string();
    let named = meta["name"] == name && (meta["namespace"] == namespace || meta["namespace"].is_null());
    let own = mirror && named && pod["spec"]["nodeName"] == node.as_str();
    own && is_owned_by_its_node_alone(meta, node) && !refers(&pod["spec"])
}

/// Nobody else's controller takes the mirror for its own, and nothing keeps it from being deleted.
fn is_owned_by_its_node_alone(meta: &Value, node: &NodeName) -> bool {
    let absent = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    let owner = |owner: &Value| {
        owner["apiVersion"] == "v1"
            && owner["kind"] == "Node"
            && owner["name"] == node.as_str()
            && owner["blockOwnerDeletion"] != true
    };
    let owners = &meta["ownerReferences"];
    let owned =
        absent(owners) || owners.as_array().is_some_and(|owners| matches!(&owners[..], [one] if owner(one)));
    owned && absent(&meta["finalizers"])
}

/// Keys of a pod's spec that lead to other objects.
const REFERENCES: [&str; 14] = [
    "secret",
    "secretRef",
    "secretKeyRef",
    "configMap",
    "configMapRef",
    "configMapKeyRef",
    "persistentVolumeClaim",
    "serviceAccountToken",
    "imagePullSecrets",
    "nodePublishSecretRef",
    "ephemeral",
    "ephemeralContainers",
    "resourceClaims",
    "azureFile",
];

fn refers(value: &Value) -> bool {
    let filled = |value: &Value| match value {
        Value::Array(items) => !items.is_empty(),
        Value::Object(_) => true,
        _ => false,
    };
    match value {
        Value::Object(fields) => fields.iter().any(|(key, value)| {
            // "serviceAccount" is the old name.
            let account = ["serviceAccountName", "serviceAccount"].contains(&key.as_str())
                && value.as_str().is_some_and(|name| !name.is_empty());
            account || (REFERENCES.contains(&key.as_str()) && filled(value)) || refers(value)
        }),
        Value::Array(items) => items.iter().any(refers),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mirror_refers_to_nothing_and_is_called_what_it_is_made_as() {
        let node = NodeName::new("edge-1").unwrap();
        let is_mirror = |spec: serde_json::Value| {
            let mut spec = spec;
            spec["nodeName"] = json!("edge-1");
            let pod = json!({"metadata": {"name": "p", "annotations": {"kubernetes.io/config.mirror": "h"}}, "spec": spec});
            is_mirror_of(&pod, &node, "d", "p")
        };
        assert!(is_mirror(json!({"nodeSelector": {"secret": "yes"}, "imagePullSecrets": []})));
        for spec in [
            json!({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}),
            json!({"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "c"}}]}}]}),
            json!({"containers": [{"env": [{"name": "a", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]}),
            json!({"initContainers": [{"envFrom": [{"configMapRef": {"name": "c"}}]}]}),
            json!({"imagePullSecrets": [{"name": "s"}]}),
            json!({"serviceAccountName": "admin"}),
            json!({"serviceAccount": "admin"}),
            json!({"volumes": [{"name": "v", "azureFile": {"secretName": "s", "shareName": "x"}}]}),
            json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "c"}]}),
        ] {
            assert!(!is_mirror(spec.clone()), "{spec}");
        }
        let other = json!({"metadata": {"name": "q", "annotations": {"kubernetes.io/config.mirror": "h"}}, "spec": {"nodeName": "edge-1"}});
        assert!(!is_mirror_of(&other, &node, "d", "p"));
    }

    #[test]
    fn a_mirror_belongs_to_its_node_and_nothing_keeps_it() {
        let node = NodeName::new("edge-1").unwrap();
        let is_mirror = |field: &str, value: serde_json::Value| {
            let mut pod = json!({"metadata": {"name": "p", "annotations": {"kubernetes.io/config.mirror": "h"}},
                "spec": {"nodeName": "edge-1"}});
            pod["metadata"][field] = value;
            is_mirror_of(&pod, &node, "d", "p")
        };
        let owner =
            json!({"apiVersion": "v1", "kind": "Node", "name": "edge-1", "uid": "u", "controller": true});
        assert!(is_mirror("labels", json!({"app": "x"})));
        assert!(is_mirror("ownerReferences", json!([owner])) && is_mirror("ownerReferences", json!([])));
        let with = |field: &str, value: serde_json::Value| {
            let mut other = owner.clone();
            other[field] = value;
            json!([other])
        };
        for owners in [
            with("kind", json!("ReplicaSet")),
            with("name", json!("edge-2")),
            with("blockOwnerDeletion", json!(true)),
            json!([owner, owner]),
            json!({"a": owner}),
        ] {
            assert!(!is_mirror("ownerReferences", owners.clone()), "{owners}");
        }
        assert!(!is_mirror("finalizers", json!(["example.com/stay"])));
    }
}
