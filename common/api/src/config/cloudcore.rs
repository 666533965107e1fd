//! `cloudcore.yaml` (docs/protocol/transport.md 7.1).

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CloudCoreConfig {
    /// Group and version of the file; any version of `cloudcore.config.kubeedge.io` is read.
    pub api_version: String,
    /// Must be `CloudCore`.
    pub kind: String,
    /// What concerns the whole program.
    pub common_config: CommonConfig,
    /// The API server that CloudCore is a client of.
    #[serde(rename = "kubeAPIConfig")]
    pub kube_api_config: KubeApiConfig,
    /// The parts of CloudCore.
    pub modules: Modules,
}

impl Default for CloudCoreConfig {
    fn default() -> Self {
        CloudCoreConfig {
            api_version: "cloudcore.config.kubeedge.io/v1alpha2".to_owned(),
            kind: "CloudCore".to_owned(),
            common_config: CommonConfig::default(),
            kube_api_config: KubeApiConfig::default(),
            modules: Modules::default(),
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CommonConfig {
    /// Health and metrics.
    pub monitor_server: MonitorServer,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MonitorServer {
    /// `address:port` of `/healthz`, `/readyz` and `/metrics`, without authentication.
    pub bind_address: String,
}

impl Default for MonitorServer {
    fn default() -> Self {
        MonitorServer { bind_address: "127.0.0.1:9091".to_owned() }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KubeApiConfig {
    /// URL of the API server, instead of the one in the kubeconfig; empty: the kubeconfig's.
    pub master: String,
    /// Path of a kubeconfig; empty: in-cluster, `$KUBECONFIG` or `~/.kube/config`.
    pub kube_config: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Modules {
    /// Connections of edges, certificates and join tokens.
    pub cloud_hub: CloudHub,
    /// Pods, config maps, secrets and nodes. Cannot be off.
    pub edge_controller: Switch,
    /// Devices and their models. Cannot be off.
    pub device_controller: Switch,
    /// Records of what edges in KubeEdge's dialect have acknowledged. Cannot be off.
    pub sync_controller: Switch,
    /// Ours: the embedded API server (`keadm init --standalone`).
    pub standalone: Standalone,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Switch {
    /// Must be true.
    pub enable: bool,
}

impl Default for Switch {
    fn default() -> Self {
        Switch { enable: true }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CloudHub {
    /// Must be true: edges have no other way in.
    pub enable: bool,
    /// Seconds without a heartbeat after which a session ends.
    pub keepalive_interval: u32,
    /// Most nodes that are connected at once; others are refused and come back.
    pub node_limit: u32,
    /// CA certificate, PEM: if the file exists, it is the CA instead of the one in the secret `casecret`.
    #[serde(rename = "tlsCAFile")]
    pub tls_ca_file: String,
    /// Key of that CA, PEM; both files or none.
    #[serde(rename = "tlsCAKeyFile")]
    pub tls_ca_key_file: String,
    /// Not used: the server certificate is made from the CA and kept in the secret `cloudcoresecret`.
    pub tls_cert_file: String,
    /// Not used, as `tlsCertFile`.
    pub tls_private_key_file: String,
    /// Addresses by which edges reach this CloudCore; they become names of the server certificate.
    pub advertise_address: Vec<String>,
    /// DNS names by which edges reach it; the same.
    pub dns_names: Vec<String>,
    /// Days for which a node's certificate is valid.
    pub edge_cert_signing_duration: u32,
    /// Hours after which a new join token is made; one is valid for twice as long.
    pub token_refresh_duration: u32,
    /// Ours: hours after its end for which a node's certificate is still exchanged for a new one; 0: never.
    pub renew_expired_for: u32,
    /// Ours: the certificate of a node whose object was deleted is refused until its machine joins again or an operator
    /// allows it (`keadm node allow`).
    pub refuse_deleted_nodes: bool,
    /// Ours: any join token gives a certificate for the name of a node that exists, as in KubeEdge.
    pub join_existing_nodes: bool,
    /// Ours: seconds between looks at the CA and the server certificate.
    pub certificate_check_seconds: u32,
    /// The port of edges, WebSocket over TLS; cannot be off. An address of 0.0.0.0 is all of IPv4; where
    /// `advertiseAddress` has an IPv6 address, it is all of IPv6 and IPv4.
    pub websocket: Listener,
    /// The port of edges for the native dialect over QUIC. KubeEdge's QUIC is another protocol.
    pub quic: Listener,
    /// The port at which nodes register: CA, certificates. It is open whatever `enable` says, as in KubeEdge.
    pub https: Listener,
    /// For the CSI driver in the cloud; off unless asked for, unlike KubeEdge.
    pub unixsocket: UnixSocket,
    /// Whether messages are judged by the node's certificate.
    pub authorization: Authorization,
    /// Ours: what nodes may cost.
    pub limits: Limits,
}

impl Default for CloudHub {
    fn default() -> Self {
        CloudHub {
            enable: true,
            keepalive_interval: 30,
            node_limit: 500,
            tls_ca_file: "/etc/kubeedge/ca/rootCA.crt".to_owned(),
            tls_ca_key_file: "/etc/kubeedge/ca/rootCA.key".to_owned(),
            tls_cert_file: "/etc/kubeedge/certs/server.crt".to_owned(),
            tls_private_key_file: "/etc/kubeedge/certs/server.key".to_owned(),
            advertise_address: Vec::new(),
            dns_names: Vec::new(),
            edge_cert_signing_duration: 365,
            token_refresh_duration: 12,
            renew_expired_for: 0,
            refuse_deleted_nodes: true,
            join_existing_nodes: false,
            certificate_check_seconds: 30,
            websocket: Listener { enable: true, address: "0.0.0.0".to_owned(), port: 10000 },
            quic: Listener { enable: false, address: "0.0.0.0".to_owned(), port: 10001 },
            https: Listener { enable: true, address: "0.0.0.0".to_owned(), port: 10002 },
            unixsocket: UnixSocket::default(),
            authorization: Authorization::default(),
            limits: Limits::default(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct UnixSocket {
    /// Whether the socket is opened. KubeEdge opens it by default; here only who runs its CSI driver needs it.
    pub enable: bool,
    /// Path of the socket, as `unix:///path`.
    pub address: String,
}

impl Default for UnixSocket {
    fn default() -> Self {
        UnixSocket { enable: false, address: "unix:///var/lib/kubeedge/kubeedge.sock".to_owned() }
    }
}

/// Ours: what nodes may cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Limits {
    /// Sessions that may start per second; nodes beyond it are told when to come back.
    pub sessions_per_second: u32,
    /// Sessions that may start at once.
    pub sessions_at_once: u32,
    /// Largest message read from a node, in bytes.
    pub message_bytes: u32,
    /// Bytes of large messages that are received at once, over all nodes.
    pub receive_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            sessions_per_second: 1000,
            sessions_at_once: 1000,
            message_bytes: 8 * 1024 * 1024,
            receive_bytes: 24 * 1024 * 1024,
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Listener {
    /// Whether the port is opened.
    pub enable: bool,
    /// IP address to listen on.
    pub address: String,
    /// Port to listen on.
    pub port: u16,
}

/// Every message is authorised by the node's certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Authorization {
    /// KubeEdge writes `false` for everybody, whether wanted or not: here it turns nothing off.
    pub enable: bool,
    /// Ours: any certificate may speak for any node, and no message is authorised. For migration only.
    pub allow_unauthorized: bool,
}

impl Default for Authorization {
    fn default() -> Self {
        Authorization { enable: true, allow_unauthorized: false }
    }
}

/// The embedded API server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Standalone {
    /// Whether the embedded API server runs in CloudCore.
    pub enable: bool,
    /// Folder of its database and keys.
    pub data_dir: String,
    /// `address:port` of the embedded API.
    pub listen: String,
    /// Where the administrator's kubeconfig is written.
    pub admin_kubeconfig: String,
}

impl Default for Standalone {
    fn default() -> Self {
        Standalone {
            enable: false,
            data_dir: "/var/lib/causeway/apiserver".to_owned(),
            listen: "127.0.0.1:6443".to_owned(),
            admin_kubeconfig: "/etc/kubeedge/admin.kubeconfig".to_owned(),
        }
    }
}
