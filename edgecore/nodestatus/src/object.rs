//! The node object as it is registered.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{DaemonEndpoint, Node, NodeDaemonEndpoints, NodeSpec, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use message::Json;
use serde::Deserialize;
use serde_json::json;

use super::architecture::architecture;
use super::status;
use nodebase::Settings;

/// The labels a node registers with.
pub fn labels(settings: &Settings) -> BTreeMap<String, String> {
    let standard = [
        ("kubernetes.io/hostname", settings.node.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
        ("node-role.kubernetes.io/edge", ""),
        ("node-role.kubernetes.io/agent", ""),
    ];
    let standard = standard.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    standard.chain(settings.labels.clone()).collect()
}

/// The node with its labels, annotations, taints and first status.
pub fn initial(room: &super::Node) -> Node {
    let settings = &room.base.settings;
    let name = settings.node.as_str().to_owned();
    let labels = labels(settings);
    let mut annotations = settings.annotations.clone();
    annotations.insert(MANAGED_ATTACH.to_owned(), "true".to_owned());
    let mut taints = settings.taints.clone();
    if !settings.register_schedulable {
        taints.push(Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        });
    }
    let mut status = status::compute(&status::Facts::of(room, status::PLEG_UNKNOWN));
    status.daemon_endpoints = Some(NodeDaemonEndpoints {
        kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(settings.kubelet_port) }),
    });
    Node {
        metadata: ObjectMeta {
            name: Some(name),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            unschedulable: (!settings.register_schedulable).then_some(true),
            taints: Some(taints).filter(|taints| !taints.is_empty()),
            ..NodeSpec::default()
        }),
        status: Some(status),
    }
}

/// Labels that follow the node, also when it is registered already (`updateDefaultLabels` of the kubelet). The others
/// belong to the administrator once the node exists.
const FOLLOWING: &[&str] = &[
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
];
const MANAGED_ATTACH: &str = "volumes.kubernetes.io/controller-managed-attach-detach";

/// What has to change of a node that existed before this start, as a patch; none if it is as it should be.
pub fn difference(initial: &Node, existing: &Node) -> Option<String> {
    let missing =
        |wanted: &Option<BTreeMap<String, String>>, there: &Option<BTreeMap<String, String>>, key: &str| {
            let value = wanted.as_ref()?.get(key)?;
            let has = there.as_ref().and_then(|there| there.get(key));
            (has != Some(value)).then(|| (key.to_owned(), value.clone()))
        };
    let (wanted, there) = (&initial.metadata, &existing.metadata);
    let labels = FOLLOWING.iter().filter_map(|key| missing(&wanted.labels, &there.labels, key));
    let labels: BTreeMap<String, String> = labels.collect();
    let annotations: BTreeMap<String, String> =
        missing(&wanted.annotations, &there.annotations, MANAGED_ATTACH).into_iter().collect();
    let port = |node: &Node| {
        let endpoints = node.status.as_ref()?.daemon_endpoints.as_ref()?;
        endpoints.kubelet_endpoint.as_ref().map(|endpoint| endpoint.port)
    };
    let moved = port(initial).filter(|wanted| port(existing) != Some(*wanted));
    if labels.is_empty() && annotations.is_empty() && moved.is_none() {
        return None;
    }
    let mut patch = json!({"metadata": {"labels": labels, "annotations": annotations}});
    if let Some(port) = moved {
        patch["status"] = json!({"daemonEndpoints": {"kubeletEndpoint": {"Port": port}}});
    }
    Some(patch.to_string())
}

/// The uid in a node object.
pub fn uid(object: &Json) -> Option<String> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        uid: String,
    }
    object.parse::<Object>().ok().map(|object| object.metadata.uid).filter(|uid| !uid.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_labels_that_follow_the_node_are_mended_on_one_that_exists() {
        let node = |labels: serde_json::Value| -> Node {
            let annotations = json!({MANAGED_ATTACH: "true"});
            serde_json::from_value(json!({"metadata": {"labels": labels, "annotations": annotations}}))
                .unwrap()
        };
        let wanted =
            node(json!({"kubernetes.io/hostname": "e", "kubernetes.io/arch": "arm64", "own": "new"}));
        assert_eq!(difference(&wanted, &wanted), None);
        let there = node(
            json!({"kubernetes.io/hostname": "e", "kubernetes.io/arch": "amd64", "own": "administrator's"}),
        );
        let patch = difference(&wanted, &there).unwrap();
        let patch: serde_json::Value = serde_json::from_str(&patch).unwrap();
        assert_eq!(
            patch,
            json!({"metadata": {"labels": {"kubernetes.io/arch": "arm64"}, "annotations": {}}})
        );
        let serves = |port: i32| {
            let mut node = wanted.clone();
            let endpoint = json!({"daemonEndpoints": {"kubeletEndpoint": {"Port": port}}});
            node.status = Some(serde_json::from_value(endpoint).unwrap());
            node
        };
        assert_eq!(difference(&serves(10250), &serves(10250)), None);
        let patch = difference(&serves(10250), &serves(10350)).unwrap();
        assert!(
            patch.contains(r#""status":{"daemonEndpoints":{"kubeletEndpoint":{"Port":10250}}}"#),
            "{patch}"
        );
        let patch = difference(&wanted, &Node::default()).unwrap();
        assert!(patch.contains(MANAGED_ATTACH) && !patch.contains("own"), "{patch}");
    }
}
