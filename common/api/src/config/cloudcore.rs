//! `cloudcore.yaml` (docs/protocol/transport.md 7.1).

use serde::{Deserialize, Deserializer, Serialize};

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
    /// Requests of programs on nodes to the API server, each with its own token.
    pub dynamic_controller: DynamicController,
    /// Logs, exec, attach and port-forward for API servers.
    pub cloud_stream: CloudStream,
    /// Ours: admission webhooks, which API servers ask.
    pub webhooks: Webhooks,
    /// Ours: the embedded API server (`keadm init --standalone`).
    pub standalone: Standalone,
}

/// What API servers ask before they store pods and endpoints. A webhook that is not reached holds up nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Webhooks {
    /// Whether CloudCore serves webhooks and keeps their configurations `cloudcore-webhooks` in the cluster.
    pub enable: bool,
    /// IP address to listen on; empty: this machine only with the embedded API server, all addresses otherwise.
    pub address: String,
    /// Port to listen on.
    pub port: u16,
    /// Where API servers reach a CloudCore outside of the cluster: `https://HOST:PORT`, without a path. Empty: this machine with the
    /// embedded API server, Service `kubeedge/cloudcore-webhooks` otherwise.
    pub url: String,
    /// Changes and deletions of pods on nodes whose link is lost: `ignore`, `warn` or `deny`. Label `causeway.io/offline-changes` of a
    /// namespace says it for that one.
    pub offline_changes: String,
}

impl Default for Webhooks {
    fn default() -> Self {
        Webhooks {
            enable: false,
            address: String::new(),
            port: 10005,
            url: String::new(),
            offline_changes: "ignore".to_owned(),
        }
    }
}

/// What API servers take for the kubelets of nodes. The embedded API server does without.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CloudStream {
    /// False: `kubectl logs`, `exec` and the like do not reach edges through a cluster's API server.
    pub enable: bool,
    /// Port of the stream server, where API servers and metrics clients ask for nodes.
    pub stream_port: u16,
    /// Ours: IP address or DNS name of the stream server as API servers reach it (of CloudCore or its Service), written as the
    /// address of every node; empty: nodes keep their own, and whoever routes to these must route to the stream server. An IP
    /// address is found where `--kubelet-preferred-address-types` has `InternalIP` before `Hostname`, as kubeadm writes it; a
    /// name in any order.
    pub node_address: String,
    /// Ours: DNS domain in which each node has the name NODE.DOMAIN, written as its `InternalDNS` address beside `nodeAddress`: for
    /// clients that know a node by its address alone, such as metrics-server. Your DNS leads all names of the domain to the stream
    /// server, whose certificate is for all of them; empty: none.
    pub node_domain: String,
    /// Ours: IP address at which other CloudCores reach this one, to pass streams on; empty: that of the pod (`$POD_IP`), or this
    /// machine only.
    pub own_address: String,
    /// Port where edges that speak KubeEdge's tunnel connect.
    pub tunnel_port: u16,
    /// CAs of the client certificates of API servers, PEM; where the file does not exist, the cluster's own CA.
    #[serde(rename = "tlsStreamCAFile")]
    pub tls_stream_ca_file: String,
    /// Certificate of the stream server, PEM; where the file does not exist, CloudCore's CA signs one.
    pub tls_stream_cert_file: String,
    /// Key of that certificate, PEM.
    pub tls_stream_private_key_file: String,
}

impl Default for CloudStream {
    fn default() -> Self {
        CloudStream {
            enable: false,
            stream_port: 10003,
            node_address: String::new(),
            node_domain: String::new(),
            own_address: String::new(),
            tunnel_port: 10004,
            tls_stream_ca_file: "/etc/kubeedge/ca/streamCA.crt".to_owned(),
            tls_stream_cert_file: "/etc/kubeedge/certs/stream.crt".to_owned(),
            tls_stream_private_key_file: "/etc/kubeedge/certs/stream.key".to_owned(),
        }
    }
}

/// What MetaServer of an edge asks the API server for programs on its node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DynamicController {
    /// Whether edges may send requests of programs on their nodes to the API server, which decides by each caller's own token. Ours:
    /// on unless it is turned off; KubeEdge's is off unless it is turned on.
    pub enable: bool,
    /// Ours: whether a node may ask as itself (`system:node:NAME`, group `system:nodes`), with the rights that the API server gives
    /// to that node: for EdgeCore's hub form and for views that MetaServer keeps itself. CloudCore impersonates the node of the
    /// session, and no other, for which it needs the right to impersonate users. Whoever has CloudCore's account then has the
    /// rights of every user.
    pub node_identity: bool,
}

impl Default for DynamicController {
    fn default() -> Self {
        DynamicController { enable: true, node_identity: false }
    }
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
    /// Ours: one port for everything edges need (443, say), beside the others; which of them is meant is told by TLS. 0: none.
    /// Edges name it in `websocket.server`, `httpServer` and `edgeStream.server`.
    pub common_port: u16,
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
    #[serde(deserialize_with = "websocket")]
    pub websocket: Listener,
    /// The port of edges for the native dialect over QUIC. KubeEdge's QUIC is another protocol.
    #[serde(deserialize_with = "quic")]
    pub quic: Listener,
    /// The port at which nodes register: CA, certificates. It is open whatever `enable` says, as in KubeEdge.
    #[serde(deserialize_with = "https")]
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
            common_port: 0,
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

fn websocket<'de, D: Deserializer<'de>>(given: D) -> Result<Listener, D::Error> {
    listener(given, CloudHub::default().websocket)
}

fn quic<'de, D: Deserializer<'de>>(given: D) -> Result<Listener, D::Error> {
    listener(given, CloudHub::default().quic)
}

fn https<'de, D: Deserializer<'de>>(given: D) -> Result<Listener, D::Error> {
    listener(given, CloudHub::default().https)
}

/// Each listener has defaults of its own: keys that are left out are those, as KubeEdge decodes over them.
fn listener<'de, D: Deserializer<'de>>(given: D, default: Listener) -> Result<Listener, D::Error> {
    #[derive(Deserialize)]
    struct Given {
        enable: Option<bool>,
        address: Option<String>,
        port: Option<u16>,
    }
    let given = Given::deserialize(given)?;
    Ok(Listener {
        enable: given.enable.unwrap_or(default.enable),
        address: given.address.unwrap_or(default.address),
        port: given.port.unwrap_or(default.port),
    })
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
    /// Controllers that run, as for kube-controller-manager's `--controllers`: `*` for all, a name for one, `-` and a name for
    /// all but that one; empty: none. The scheduler is `default-scheduler`.
    pub controllers: Vec<String>,
    /// Addresses that services are given (IPv4, `base/prefix`); of services that are there already, those outside keep theirs.
    #[serde(rename = "serviceClusterIPRange")]
    pub service_cluster_ip_range: String,
    /// Reads under way at once, without watches and other requests that last; further ones are told to come again (429). 0: any
    /// number.
    pub max_requests_inflight: u32,
    /// The same of requests that change something.
    pub max_mutating_requests_inflight: u32,
    /// A file in which each request is told of: who asked for what, and how it ended, in Kubernetes' form at level Metadata. An absolute
    /// path in a folder that exists; beyond 100 MiB it is put aside as `PATH.1`, and five such files are kept. Empty: none.
    pub audit_log: String,
}

impl Default for Standalone {
    fn default() -> Self {
        Standalone {
            enable: false,
            data_dir: "/var/lib/causeway/apiserver".to_owned(),
            listen: "127.0.0.1:6443".to_owned(),
            admin_kubeconfig: "/etc/kubeedge/admin.kubeconfig".to_owned(),
            controllers: vec!["*".to_owned()],
            service_cluster_ip_range: "10.96.0.0/16".to_owned(),
            max_requests_inflight: 400,
            max_mutating_requests_inflight: 200,
            audit_log: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_which_one_key_is_given_keeps_its_own_defaults() {
        let text = r#"{"websocket": {"port": 10443}, "quic": {"enable": true}, "https": {}}"#;
        let hub: CloudHub = serde_json::from_str(text).unwrap();
        let told = |listener: &Listener| (listener.enable, listener.address.clone(), listener.port);
        assert_eq!(told(&hub.websocket), (true, "0.0.0.0".to_owned(), 10443));
        assert_eq!(told(&hub.quic), (true, "0.0.0.0".to_owned(), 10001));
        assert_eq!(told(&hub.https), (true, "0.0.0.0".to_owned(), 10002));
        assert!(serde_json::from_str::<CloudHub>(r#"{"quic": {"port": "often"}}"#).is_err());
    }
}
