//! `edgecore.yaml` (docs/protocol/transport.md 7.2, 7.3).

mod kubelet;
mod meta_server;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PROJECT_ID;
pub use kubelet::{Authentication, CrashLoopBackOff, KubeletConfig, X509};
pub use meta_server::{MetaServer, MetaServerFilters, MetaServerHub};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EdgeCoreConfig {
    /// Group and version of the file; any version of `edgecore.config.kubeedge.io` is read.
    pub api_version: String,
    /// Must be `EdgeCore`.
    pub kind: String,
    /// The node's SQLite database.
    pub database: Database,
    /// Ours: what concerns the whole program, with the names of `cloudcore.yaml`.
    pub common_config: CommonConfig,
    /// The parts of EdgeCore.
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
    /// Health and metrics.
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
    /// Path of the database. Its folder also holds `edged.sock` and is locked by one EdgeCore.
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
    /// Pods and the node object.
    pub edged: Edged,
    /// The connection to the cloud, and this node's certificate.
    pub edge_hub: EdgeHub,
    /// KubeEdge's tunnel for logs and exec, to clouds that have no other way.
    pub edge_stream: EdgeStream,
    /// MQTT.
    pub event_bus: EventBus,
    /// Devices and their mappers.
    pub device_twin: DeviceTwin,
    /// What the node holds of the cluster.
    pub meta_manager: MetaManager,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Edged {
    /// Whether pods are run. Without it the node is not registered either.
    pub enable: bool,
    /// Name of the node; empty: the host's name.
    pub hostname_override: String,
    /// Address of the node; empty: the one its name resolves to, else that of the default route.
    #[serde(rename = "nodeIP")]
    pub node_ip: String,
    /// Labels the node registers with.
    pub node_labels: BTreeMap<String, String>,
    /// Whether the node takes pods when it registers; false: it is cordoned.
    pub register_schedulable: bool,
    /// Taints the node registers with, beside `tailoredKubeletConfig.registerWithTaints` (the place in v1alpha1).
    pub taints: Vec<Taint>,
    /// Where KubeEdge before 1.18 has `tailoredKubeletConfig.registerNode`: false in either place holds.
    pub register_node: bool,
    /// Where KubeEdge before 1.18 has `tailoredKubeletConfig.registerWithTaints`: taints of all places hold.
    pub register_with_taints: Vec<Taint>,
    /// Where KubeEdge 1.12 to 1.15 have `tailoredKubeletConfig.containerRuntimeEndpoint`.
    pub remote_runtime_endpoint: String,
    /// Where KubeEdge 1.12 to 1.15 have `tailoredKubeletConfig.imageServiceEndpoint`.
    pub remote_image_endpoint: String,
    /// Where KubeEdge has `tailoredKubeletConfig.seccompDefault` as well: true in either place holds.
    pub seccomp_default: bool,
    /// Whether events of pods and of the node are sent to the cloud. KubeEdge's default is false.
    pub report_event: bool,
    /// Folder of pods, plugins and seccomp profiles.
    pub root_directory: String,
    /// Ours: who may reach the Node API, and how.
    #[serde(rename = "nodeAPI")]
    pub node_api: NodeApi,
    /// Settings of the kubelet, with the names of its own file.
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
    /// Groups whose client certificates the TLS port serves, by one of their organisations.
    pub allowed_groups: Vec<String>,
    /// Ports of the node's loopback address, `"9100"` or `"8000-8100"`, that are reached through the Node API by whoever
    /// may use it (`nodes/proxy`); empty: none. Ports of EdgeCore itself are never part of a range, and those of the Node
    /// API cannot be named.
    #[serde(deserialize_with = "ports")]
    pub forwarded_ports: Vec<String>,
    /// KubeEdge's 127.0.0.1:10350, where every program of the machine may do everything without saying who it is.
    pub unauthenticated_loopback: bool,
}

/// A single port may be written without quotes, which YAML reads as a number.
fn ports<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Number(i64),
        Text(String),
    }
    let entries: Vec<Entry> = Vec::deserialize(from)?;
    Ok(entries
        .into_iter()
        .map(|entry| match entry {
            Entry::Number(port) => port.to_string(),
            Entry::Text(text) => text,
        })
        .collect())
}

impl Default for NodeApi {
    fn default() -> Self {
        // What Kubernetes API servers and administrators are called.
        let groups = ["system:masters", "kubeadm:cluster-admins"];
        NodeApi {
            socket: String::new(),
            allowed_clients: vec!["kube-apiserver-kubelet-client".to_owned()],
            allowed_groups: groups.map(str::to_owned).to_vec(),
            forwarded_ports: Vec::new(),
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
    /// Key of the taint.
    pub key: String,
    /// Value of the taint.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// Not needed with our CloudCore, which reaches the Node API through the session.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EdgeStream {
    /// Whether the tunnel is kept up.
    pub enable: bool,
    /// `host:port` of the cloud's tunnel server.
    pub server: String,
    /// Seconds for connecting and all handshakes.
    pub handshake_timeout: u32,
    /// CA certificates by which the cloud is verified, PEM.
    #[serde(rename = "tlsTunnelCAFile")]
    pub tls_tunnel_ca_file: String,
    /// The certificate that is shown, PEM.
    pub tls_tunnel_cert_file: String,
    /// Its key, PEM.
    pub tls_tunnel_private_key_file: String,
}

impl Default for EdgeStream {
    fn default() -> Self {
        EdgeStream {
            enable: false,
            server: "127.0.0.1:10004".to_owned(),
            handshake_timeout: 30,
            tls_tunnel_ca_file: "/etc/kubeedge/ca/rootCA.crt".to_owned(),
            tls_tunnel_cert_file: "/etc/kubeedge/certs/server.crt".to_owned(),
            tls_tunnel_private_key_file: "/etc/kubeedge/certs/server.key".to_owned(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EdgeHub {
    /// Must be true: nothing else brings objects to this node.
    pub enable: bool,
    /// Seconds between heartbeats.
    pub heartbeat: u32,
    /// Part of the path of the WebSocket; no CloudCore looks at it.
    #[serde(rename = "projectID")]
    pub project_id: String,
    /// CA certificates that are trusted, PEM; written when the node joins and when a CA is replaced.
    pub tls_ca_file: String,
    /// The node's certificate, PEM; written when the node joins and at each renewal.
    pub tls_cert_file: String,
    /// Its key, PEM; made on the node.
    pub tls_private_key_file: String,
    /// The cloud's port for WebSocket over TLS.
    pub websocket: WebSocket,
    /// The native dialect over QUIC; tried before WebSocket where both are on.
    pub quic: Quic,
    /// Ours. `auto`: the native dialect where the cloud knows it; `kubeedge`: KubeEdge's only.
    pub dialect: String,
    /// Ours: proxy to the cloud, `http://host:port` (CONNECT) or `socks5://host:port`, with `user:password@` if it asks
    /// for them; empty: none. For registration as well; QUIC must be off.
    pub proxy: String,
    /// URL of the cloud's registration port.
    pub http_server: String,
    /// Join token; blanked in the file once the certificate is there.
    pub token: String,
    /// Ours: when this machine enrols, take the name over from one that is connected by it.
    pub take_over: bool,
    /// File that holds the join token and wins over `token` (KubeEdge's bootstrap file).
    pub token_file: String,
    /// Whether the certificate is exchanged when most of its life is over.
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
            proxy: String::new(),
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
    /// Whether it is used.
    pub enable: bool,
    /// Seconds for connecting and the handshakes, of QUIC as well.
    pub handshake_timeout: u32,
    /// `host:port` of the cloud.
    pub server: String,
    /// Ours: `host:port` of further CloudCores, or of other ways to the same one. One that fails or takes long is passed
    /// over.
    pub other_servers: Vec<String>,
    /// Ours. `priority`: `server` is tried first, then the others in their order; `roundRobin`: each connection begins
    /// with another.
    pub order: String,
}

impl Default for WebSocket {
    fn default() -> Self {
        WebSocket {
            enable: true,
            handshake_timeout: 30,
            server: "127.0.0.1:10000".to_owned(),
            other_servers: Vec::new(),
            order: "priority".to_owned(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EventBus {
    /// Whether MQTT is spoken; only with `modules.deviceTwin.enable`.
    pub enable: bool,
    /// 0 the embedded broker, 1 both, 2 an external broker. KubeEdge's default is 2; ours needs nothing installed.
    pub mqtt_mode: u8,
    /// `tcp://address:port` at which the embedded broker listens.
    pub mqtt_server_internal: String,
    /// `tcp://host:port` of the external broker; TLS is not spoken.
    pub mqtt_server_external: String,
    /// Login at the external broker.
    pub mqtt_username: String,
    /// Its password.
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
    /// Subscriptions of one client.
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
    /// Whether devices are served.
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

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MetaManager {
    /// The Kubernetes API on this node.
    pub meta_server: MetaServer,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Quic {
    /// Whether it is used; tried before WebSocket where both are on.
    pub enable: bool,
    /// `host:port` of the cloud.
    pub server: String,
}

impl Default for Quic {
    fn default() -> Self {
        Quic { enable: false, server: "127.0.0.1:10001".to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarded_port_may_be_a_number() {
        let api: NodeApi =
            serde_json::from_str(r#"{"forwardedPorts": [9100, "8000-8100"]}"#).unwrap_or_default();
        assert_eq!(api.forwarded_ports, ["9100", "8000-8100"]);
        assert!(serde_json::from_str::<NodeApi>(r#"{"forwardedPorts": [true]}"#).is_err());
    }
}
