//! What an operator may choose: `values.yaml` of the chart, `--set` of `keadm manifest generate`. Names are those of KubeEdge's
//! chart where it has them.

use api::config::cloudcore::Modules;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// All values.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Installation {
    /// The program and what is around it.
    pub cloud_core: CloudCore,
}

/// The program and what is around it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CloudCore {
    /// How many run at once; any of them serves any node.
    pub replica_count: u32,
    /// The program.
    pub image: Image,
    /// `modules` of cloudcore.yaml.
    pub modules: Modules,
    /// `CAUSEWAY_LOG`.
    pub log: String,
    /// `commonConfig.monitorServer.bindAddress`; the port is 9091.
    pub monitor_address: String,
    /// How edges reach it.
    pub service: Service,
    /// Of the pods.
    pub annotations: Value,
    /// Requests and limits of the container.
    pub resources: Value,
    /// Of the pods.
    pub node_selector: Value,
    /// Of the pods.
    pub tolerations: Value,
    /// Of the pods.
    pub affinity: Value,
    /// Of the pods.
    pub priority_class_name: String,
    /// Replicas that may be taken away at once.
    pub pod_disruption_budget: PodDisruptionBudget,
    /// Who reaches the pods.
    pub network_policy: NetworkPolicy,
    /// For the operator of Prometheus.
    pub service_monitor: ServiceMonitor,
}

impl Default for CloudCore {
    fn default() -> CloudCore {
        let mut modules = Modules::default();
        modules.cloud_stream.enable = true;
        modules.webhooks.enable = true;
        modules.cloud_hub.node_limit = 1000;
        CloudCore {
            replica_count: 2,
            image: Image::default(),
            modules,
            log: "info".to_owned(),
            monitor_address: "0.0.0.0:9091".to_owned(),
            service: Service::default(),
            annotations: json!({}),
            resources: json!({
                "requests": {"cpu": "100m", "memory": "128Mi"},
                "limits": {"memory": "1Gi"},
            }),
            node_selector: json!({}),
            tolerations: json!([]),
            affinity: json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "node-role.kubernetes.io/edge", "operator": "DoesNotExist"},
                ]}],
            }}}),
            priority_class_name: String::new(),
            pod_disruption_budget: PodDisruptionBudget { enable: true },
            network_policy: NetworkPolicy { enable: true, monitor_from: json!([{"namespaceSelector": {}}]) },
            service_monitor: ServiceMonitor { enable: false, labels: json!({}), interval: "30s".to_owned() },
        }
    }
}

/// The image.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Image {
    /// Registry and name.
    pub repository: String,
    /// Empty: this version.
    pub tag: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
    /// `[{name: SECRET}]`.
    pub pull_secrets: Value,
}

impl Default for Image {
    fn default() -> Image {
        Image {
            repository: "causeway/cloudcore".to_owned(),
            tag: String::new(),
            pull_policy: "IfNotPresent".to_owned(),
            pull_secrets: json!([]),
        }
    }
}

/// The Service that edges come to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Service {
    /// `NodePort`, `LoadBalancer` or `ClusterIP`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of the Service, for a balancer's controller.
    pub annotations: Value,
    /// Ports of the cluster's nodes.
    pub cloudhub_node_port: u16,
    /// The same.
    pub cloudhub_quic_node_port: u16,
    /// The same.
    pub cloudhub_https_node_port: u16,
    /// The same.
    pub tunnel_node_port: u16,
    /// The same.
    pub common_node_port: u16,
    /// Port of the Service that leads to the common port.
    pub common_port: u16,
}

impl Default for Service {
    fn default() -> Service {
        Service {
            kind: "NodePort".to_owned(),
            annotations: json!({}),
            cloudhub_node_port: 30000,
            cloudhub_quic_node_port: 30001,
            cloudhub_https_node_port: 30002,
            tunnel_node_port: 30004,
            common_node_port: 30443,
            common_port: 443,
        }
    }
}

/// Whether there is a PodDisruptionBudget.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodDisruptionBudget {
    /// Whether it is there.
    pub enable: bool,
}

/// Who may reach which port of the pods.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetworkPolicy {
    /// Whether it is there.
    pub enable: bool,
    /// Peers that read health and metrics, as `from` of a NetworkPolicy has them.
    pub monitor_from: Value,
}

/// The ServiceMonitor.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceMonitor {
    /// Whether it is there; its custom resource definition has to be.
    pub enable: bool,
    /// Labels by which Prometheus finds it.
    pub labels: Value,
    /// How often metrics are read.
    pub interval: String,
}
