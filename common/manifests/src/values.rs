//! What the objects are filled with: values, or the expressions of a chart in their places.

use serde_json::{Value, json};

use crate::marks::MORE;
use crate::{Installation, NAME, Switch, words};

/// Fills for every place of the objects.
#[derive(Clone, Debug)]
pub struct Values {
    /// Labels of all objects, beside those of the program.
    pub labels: Vec<(&'static str, Value)>,
    /// Text of cloudcore.yaml.
    pub config: String,
    /// Annotations of the pods.
    pub annotations: Value,
    /// How many pods.
    pub replicas: Value,
    /// The image with its tag.
    pub image: Value,
    /// When it is fetched.
    pub pull_policy: Value,
    /// With which secrets.
    pub pull_secrets: Value,
    /// `CAUSEWAY_LOG`.
    pub log: Value,
    /// Of the container.
    pub resources: Value,
    /// Of the pods.
    pub node_selector: Value,
    /// Of the pods.
    pub tolerations: Value,
    /// Of the pods.
    pub affinity: Value,
    /// Of the pods.
    pub priority_class: (Switch, Value),
    /// `type` of the Service for edges.
    pub service_type: Value,
    /// Its annotations.
    pub service_annotations: Value,
    /// Whether the ports of the cluster's nodes are named.
    pub node_ports: Switch,
    /// Ports for edges.
    pub ports: Ports,
    /// QUIC.
    pub quic: Switch,
    /// One port for all.
    pub common: Switch,
    /// The stream server and the tunnel server.
    pub streams: Switch,
    /// The admission webhooks.
    pub webhooks: Switch,
    /// Requests of nodes as themselves.
    pub node_identity: Switch,
    /// The PodDisruptionBudget.
    pub budget: Switch,
    /// The NetworkPolicy.
    pub policy: Switch,
    /// Who reads metrics.
    pub monitor_from: Value,
    /// The ServiceMonitor, its labels and interval.
    pub monitor: (Switch, Value, Value),
}

/// Port of the container, and that of the cluster's nodes. The Service's is the first, but for the common one.
#[derive(Clone, Debug)]
pub struct Ports {
    /// WebSocket.
    pub hub: [Value; 2],
    /// QUIC.
    pub quic: [Value; 2],
    /// Registration.
    pub https: [Value; 2],
    /// KubeEdge's tunnel.
    pub tunnel: [Value; 2],
    /// All of these.
    pub common: [Value; 2],
    /// The Service's port for all.
    pub common_service: Value,
    /// Streams, for API servers; no node has it.
    pub stream: Value,
    /// Admission webhooks, for API servers; the same.
    pub webhooks: Value,
}

impl Values {
    /// An installation with these values.
    pub fn of(installation: &Installation) -> Values {
        let core = &installation.cloud_core;
        let (hub, streams, service) = (&core.modules.cloud_hub, &core.modules.cloud_stream, &core.service);
        let tag = match core.image.tag.as_str() {
            "" => env!("CARGO_PKG_VERSION"),
            tag => tag,
        };
        Values {
            labels: vec![(words::MANAGED_BY, json!("causeway"))],
            config: words::config(core),
            annotations: core.annotations.clone(),
            replicas: json!(core.replica_count),
            image: json!(format!("{}:{tag}", core.image.repository)),
            pull_policy: json!(core.image.pull_policy),
            pull_secrets: core.image.pull_secrets.clone(),
            log: json!(core.log),
            resources: core.resources.clone(),
            node_selector: core.node_selector.clone(),
            tolerations: core.tolerations.clone(),
            affinity: core.affinity.clone(),
            priority_class: (
                Switch::of(!core.priority_class_name.is_empty()),
                json!(core.priority_class_name),
            ),
            service_type: json!(service.kind),
            service_annotations: service.annotations.clone(),
            node_ports: Switch::of(service.kind == "NodePort"),
            ports: Ports {
                hub: [json!(hub.websocket.port), json!(service.cloudhub_node_port)],
                quic: [json!(hub.quic.port), json!(service.cloudhub_quic_node_port)],
                https: [json!(hub.https.port), json!(service.cloudhub_https_node_port)],
                tunnel: [json!(streams.tunnel_port), json!(service.tunnel_node_port)],
                common: [json!(hub.common_port), json!(service.common_node_port)],
                common_service: json!(service.common_port),
                stream: json!(streams.stream_port),
                webhooks: json!(core.modules.webhooks.port),
            },
            quic: Switch::of(hub.quic.enable),
            common: Switch::of(hub.common_port > 0),
            streams: Switch::of(streams.enable),
            webhooks: Switch::of(core.modules.webhooks.enable),
            node_identity: Switch::of(core.modules.dynamic_controller.node_identity),
            budget: Switch::of(core.pod_disruption_budget.enable),
            policy: Switch::of(core.network_policy.enable),
            monitor_from: core.network_policy.monitor_from.clone(),
            monitor: (
                Switch::of(core.service_monitor.enable),
                core.service_monitor.labels.clone(),
                json!(core.service_monitor.interval),
            ),
        }
    }

    /// The chart: an expression in every place.
    pub fn template() -> Values {
        // JSON is YAML, whatever the type of the value.
        let of = |path: &str| json!(format!("{{{{ toJson .Values.cloudCore.{path} }}}}"));
        let pair = |port: &str, node: &str| [of(port), of(&format!("service.{node}"))];
        Values {
            labels: vec![
                (words::MANAGED_BY, json!("{{ toJson .Release.Service }}")),
                (
                    "helm.sh/chart",
                    json!(
                        r#"{{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | toJson }}"#
                    ),
                ),
            ],
            config: words::config_template(),
            annotations: json!({
                "checksum/config": words::CHECKSUM,
                MORE: ".Values.cloudCore.annotations",
            }),
            replicas: of("replicaCount"),
            image: json!(words::IMAGE),
            pull_policy: of("image.pullPolicy"),
            pull_secrets: of("image.pullSecrets"),
            log: of("log"),
            resources: of("resources"),
            node_selector: of("nodeSelector"),
            tolerations: of("tolerations"),
            affinity: of("affinity"),
            priority_class: (Switch::When(".Values.cloudCore.priorityClassName"), of("priorityClassName")),
            service_type: of("service.type"),
            service_annotations: of("service.annotations"),
            node_ports: Switch::When(r#"eq .Values.cloudCore.service.type "NodePort""#),
            ports: Ports {
                hub: pair("modules.cloudHub.websocket.port", "cloudhubNodePort"),
                quic: pair("modules.cloudHub.quic.port", "cloudhubQuicNodePort"),
                https: pair("modules.cloudHub.https.port", "cloudhubHttpsNodePort"),
                tunnel: pair("modules.cloudStream.tunnelPort", "tunnelNodePort"),
                common: pair("modules.cloudHub.commonPort", "commonNodePort"),
                common_service: of("service.commonPort"),
                stream: of("modules.cloudStream.streamPort"),
                webhooks: of("modules.webhooks.port"),
            },
            quic: Switch::When(".Values.cloudCore.modules.cloudHub.quic.enable"),
            common: Switch::When(".Values.cloudCore.modules.cloudHub.commonPort"),
            streams: Switch::When(".Values.cloudCore.modules.cloudStream.enable"),
            webhooks: Switch::When(".Values.cloudCore.modules.webhooks.enable"),
            node_identity: Switch::When(".Values.cloudCore.modules.dynamicController.nodeIdentity"),
            budget: Switch::When(".Values.cloudCore.podDisruptionBudget.enable"),
            policy: Switch::When(".Values.cloudCore.networkPolicy.enable"),
            monitor_from: of("networkPolicy.monitorFrom"),
            monitor: (
                Switch::When(".Values.cloudCore.serviceMonitor.enable"),
                json!({MORE: ".Values.cloudCore.serviceMonitor.labels"}),
                of("serviceMonitor.interval"),
            ),
        }
    }

    /// `metadata` of an object.
    pub(crate) fn metadata(&self, name: &str, namespace: Option<&str>) -> Value {
        let mut metadata = json!({"name": name, "labels": selector()});
        if let Some(namespace) = namespace {
            metadata["namespace"] = json!(namespace);
        }
        for (label, value) in &self.labels {
            metadata["labels"][label] = value.clone();
        }
        metadata
    }
}

/// Labels that select the pods.
pub(crate) fn selector() -> Value {
    json!({"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "causeway"})
}
