//! `edgecore.yaml` (spec/transport.md 7.2, 7.3).

mod kubelet;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PROJECT_ID;
pub use kubelet::{Authentication, CrashLoopBackOff, KubeletConfig, X509};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EdgeCoreConfig {
    pub api_version: String,
    pub kind: String,
    pub database: Database,
    pub common_config: CommonConfig,
    pub modules: Modules,
}

impl Default for EdgeCoreConfig {
    fn default() -> Self {
        EdgeCoreConfig {
            api_version: "edgecore.config.kubeedge.io/v1alpha2".to_owned(),
            kind: "EdgeCore".to_owned(),
            database: Database::default(),
            common_config: CommonConfig::default(),
            modules: Modules::default(),
        }
    }
}

/// Ours, with the names of `cloudcore.yaml`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CommonConfig {
    pub monitor_server: MonitorServer,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MonitorServer {
    /// A loopback `address:port` for `/healthz`, `/readyz` and `/metrics`; empty: none, they are on the Node API's
    /// socket only.
    pub bind_address: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Database {
    pub data_source: String,
    /// Ours: the file of the key with which secrets and tokens are sealed in the database; made if it is missing. Empty: they
    /// are stored in plain text, as KubeEdge does.
    pub secrets_key_file: String,
}

impl Default for Database {
    fn default() -> Self {
        Database { data_source: "/var/lib/kubeedge/edgecore.db".to_owned(), secrets_key_file: String::new() }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Modules {
    pub edged: Edged,
    pub edge_hub: EdgeHub,
    pub event_bus: EventBus,
    pub device_twin: DeviceTwin,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Edged {
    pub enable: bool,
    /// Empty: the host's name.
    pub hostname_override: String,
    #[serde(rename = "nodeIP")]
    pub node_ip: String,
    pub node_labels: BTreeMap<String, String>,
    pub register_schedulable: bool,
    /// Taints the node registers with, beside `tailoredKubeletConfig.registerWithTaints` (the place in v1alpha1).
    pub taints: Vec<Taint>,
    /// Where KubeEdge before 1.18 has `tailoredKubeletConfig.registerNode`: false in either place holds.
    pub register_node: bool,
    /// The same of `registerWithTaints`: those of all places hold.
    pub register_with_taints: Vec<Taint>,
    /// Where KubeEdge 1.12 to 1.15 have `tailoredKubeletConfig.containerRuntimeEndpoint`.
    pub remote_runtime_endpoint: String,
    /// The same of `imageServiceEndpoint`.
    pub remote_image_endpoint: String,
    /// The same of `seccompDefault`.
    pub seccomp_default: bool,
    pub report_event: bool,
    pub root_directory: String,
    /// Ours: who may reach the Node API, and how.
    #[serde(rename = "nodeAPI")]
    pub node_api: NodeApi,
    pub tailored_kubelet_config: KubeletConfig,
}

/// The Node API beside its TLS port, whose keys are the kubelet's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeApi {
    /// The unix socket; empty: `edged.sock` beside the database.
    pub socket: String,
    /// Users whose client certificates the TLS port serves, by their common name.
    pub allowed_clients: Vec<String>,
    /// The same of groups, by one of their organisations.
    pub allowed_groups: Vec<String>,
    /// KubeEdge's 127.0.0.1:10350, where every program of the machine may do everything without saying who it is.
    pub unauthenticated_loopback: bool,
}

impl Default for NodeApi {
    fn default() -> Self {
        // What Kubernetes API servers and administrators are called.
        let groups = ["system:masters", "kubeadm:cluster-admins"];
        NodeApi {
            socket: String::new(),
            allowed_clients: vec!["kube-apiserver-kubelet-client".to_owned()],
            allowed_groups: groups.map(str::to_owned).to_vec(),
            unauthenticated_loopback: false,
        }
    }
}

impl Default for Edged {
    fn default() -> Self {
        Edged {
            enable: true,
            hostname_override: String::new(),
            node_ip: String::new(),
            node_labels: BTreeMap::new(),
            register_schedulable: true,
            taints: Vec::new(),
            register_node: true,
            register_with_taints: Vec::new(),
            remote_runtime_endpoint: String::new(),
            remote_image_endpoint: String::new(),
            seccomp_default: false,
            report_event: true,
            root_directory: "/var/lib/kubelet".to_owned(),
            node_api: NodeApi::default(),
            tailored_kubelet_config: KubeletConfig::default(),
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EdgeHub {
    pub enable: bool,
    /// Seconds between heartbeats.
    pub heartbeat: u32,
    #[serde(rename = "projectID")]
    pub project_id: String,
    pub tls_ca_file: String,
    pub tls_cert_file: String,
    pub tls_private_key_file: String,
    pub websocket: WebSocket,
    /// The native dialect over QUIC; tried before WebSocket where both are on.
    pub quic: Quic,
    /// Ours. `auto`: the native dialect where the cloud knows it; `kubeedge`: KubeEdge's only.
    pub dialect: String,
    pub http_server: String,
    /// Join token; blanked in the file once the certificate is there.
    pub token: String,
    /// Ours: when this machine enrols, take the name over from one that is connected by it.
    pub take_over: bool,
    /// File that holds the join token and wins over `token` (KubeEdge's bootstrap file).
    pub token_file: String,
    /// Exchange the certificate when most of its life is over.
    pub rotate_certificates: bool,
    /// Ours: seconds after which the CAs to trust are asked for again.
    pub ca_refresh_seconds: u32,
}

impl Default for EdgeHub {
    fn default() -> Self {
        EdgeHub {
            enable: true,
            heartbeat: 15,
            project_id: PROJECT_ID.to_owned(),
            tls_ca_file: "/etc/kubeedge/ca/rootCA.crt".to_owned(),
            tls_cert_file: "/etc/kubeedge/certs/server.crt".to_owned(),
            tls_private_key_file: "/etc/kubeedge/certs/server.key".to_owned(),
            websocket: WebSocket::default(),
            quic: Quic::default(),
            dialect: "auto".to_owned(),
            http_server: "https://127.0.0.1:10002".to_owned(),
            token: String::new(),
            take_over: false,
            token_file: "/etc/kubeedge/bootstrap-edgecore.conf".to_owned(),
            rotate_certificates: true,
            ca_refresh_seconds: 86_400,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WebSocket {
    pub enable: bool,
    /// Seconds.
    pub handshake_timeout: u32,
    /// `host:port`.
    pub server: String,
}

impl Default for WebSocket {
    fn default() -> Self {
        WebSocket { enable: true, handshake_timeout: 30, server: "127.0.0.1:10000".to_owned() }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EventBus {
    pub enable: bool,
    /// 0 the embedded broker, 1 both, 2 an external broker. KubeEdge's default is 2; ours needs nothing installed.
    pub mqtt_mode: u8,
    pub mqtt_server_internal: String,
    pub mqtt_server_external: String,
    pub mqtt_username: String,
    pub mqtt_password: String,
    /// Ours: what the embedded broker grants.
    pub limits: EventBusLimits,
    /// Ours: whom the embedded broker lets in.
    pub access: EventBusAccess,
}

/// Logins and rights of clients of the embedded broker. Without them every program that reaches it may use every topic
/// but those of EdgeCore's own answers, as at KubeEdge's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EventBusAccess {
    /// Users and hashed passwords, as `mosquitto_passwd` writes them; empty: nobody is asked for a name.
    pub password_file: String,
    /// Topics of each user, in the form of Mosquitto's `acl_file`; empty: all.
    pub acl_file: String,
}

/// Limits of the embedded broker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EventBusLimits {
    /// Clients connected at once.
    pub clients: u32,
    pub subscriptions_per_client: u32,
    /// Bytes of all messages that are kept for clients; beyond them the largest session loses its oldest.
    pub queued_bytes: u32,
    /// Seconds for which the session of a client that is away is kept.
    pub kept_session_seconds: u32,
}

impl Default for EventBusLimits {
    fn default() -> Self {
        EventBusLimits {
            clients: 1024,
            subscriptions_per_client: 4096,
            queued_bytes: 8 * 1024 * 1024,
            kept_session_seconds: 2 * 60 * 60,
        }
    }
}

impl Default for EventBus {
    fn default() -> Self {
        EventBus {
            enable: true,
            mqtt_mode: 0,
            mqtt_server_internal: "tcp://127.0.0.1:1884".to_owned(),
            mqtt_server_external: "tcp://127.0.0.1:1883".to_owned(),
            mqtt_username: String::new(),
            mqtt_password: String::new(),
            limits: EventBusLimits::default(),
            access: EventBusAccess::default(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeviceTwin {
    pub enable: bool,
    /// Directory of the socket `dmi.sock`.
    pub dmi_sock_path: String,
    /// Ours: take values of a device from any program at that socket, as KubeEdge does, instead of only from the mapper
    /// that registered for the device's protocol.
    pub accept_any_reporter: bool,
}

impl Default for DeviceTwin {
    fn default() -> Self {
        DeviceTwin { enable: true, dmi_sock_path: "/etc/kubeedge/".to_owned(), accept_any_reporter: false }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Quic {
    pub enable: bool,
    /// `host:port`.
    pub server: String,
}

impl Default for Quic {
    fn default() -> Self {
        Quic { enable: false, server: "127.0.0.1:10001".to_owned() }
    }
}
