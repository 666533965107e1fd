//! The node object as it is registered.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{DaemonEndpoint, Node, NodeDaemonEndpoints, NodeSpec, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use message::Json;
use serde::Deserialize;

use super::status;
use crate::edged::context::Context;
use crate::host::Host;

/// The name Go and Kubernetes give this machine's architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// The node with its labels, annotations, taints and first status.
pub fn initial(context: &Context, host: &dyn Host) -> Node {
    let settings = &context.settings;
    let name = settings.node.as_str().to_owned();
    let standard = [
        ("kubernetes.io/hostname", name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
        ("node-role.kubernetes.io/edge", ""),
        ("node-role.kubernetes.io/agent", ""),
    ];
    let mut labels: BTreeMap<String, String> =
        standard.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    labels.extend(settings.labels.clone());
    let mut annotations = settings.annotations.clone();
    annotations
        .insert("volumes.kubernetes.io/controller-managed-attach-detach".to_owned(), "true".to_owned());
    let mut taints = settings.taints.clone();
    if !settings.register_schedulable {
        taints.push(Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        });
    }
    let mut status = status::compute(&status::Facts::of(context, host, status::PLEG_UNKNOWN));
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
