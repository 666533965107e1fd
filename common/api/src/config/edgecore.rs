//! `edgecore.yaml` (spec/transport.md 7.2, 7.3).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PROJECT_ID;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EdgeCoreConfig {
    pub api_version: String,
    pub kind: String,
    pub database: Database,
    pub modules: Modules,
}

impl Default for EdgeCoreConfig {
    fn default() -> Self {
        EdgeCoreConfig {
            api_version: "edgecore.config.kubeedge.io/v1alpha2".to_owned(),
            kind: "EdgeCore".to_owned(),
            database: Database::default(),
            modules: Modules::default(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Database {
    pub data_source: String,
}

impl Default for Database {
    fn default() -> Self {
        Database { data_source: "/var/lib/kubeedge/edgecore.db".to_owned() }
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
    /// Taints the node registers with.
    pub taints: Vec<Taint>,
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
    /// Common names and organisations of client certificates the TLS port serves.
    pub allowed_clients: Vec<String>,
    /// KubeEdge's 127.0.0.1:10350, where every program of the machine may do everything without saying who it is.
    pub unauthenticated_loopback: bool,
}

impl Default for NodeApi {
    fn default() -> Self {
        // What Kubernetes API servers and administrators are called.
        let clients = ["kube-apiserver-kubelet-client", "system:masters", "kubeadm:cluster-admins"];
        NodeApi {
            socket: String::new(),
            allowed_clients: clients.map(str::to_owned).to_vec(),
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

/// The keys of `tailoredKubeletConfig` that edged acts on. Durations are Go's ("1m0s").
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KubeletConfig {
    pub pod_logs_dir: String,
    pub container_runtime_endpoint: String,
    pub cgroup_driver: String,
    pub cgroup_root: String,
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Option<Vec<String>>,
    pub cluster_domain: String,
    pub resolv_conf: String,
    pub max_pods: u32,
    pub node_lease_duration_seconds: u32,
    pub node_status_update_frequency: String,
    pub node_status_report_frequency: String,
    /// The TLS port is open when its certificate, its key and the CA of its clients are named.
    pub address: String,
    pub port: u16,
    pub tls_cert_file: String,
    pub tls_private_key_file: String,
    pub authentication: Authentication,
    pub streaming_connection_idle_timeout: String,
    /// Images told in the node's status; KubeEdge tells none.
    pub node_status_max_images: u32,
    pub static_pod_path: String,
    pub file_check_frequency: String,
    pub serialize_image_pulls: bool,
    /// Counts when `serializeImagePulls` is off; absent: as many as there are pods.
    pub max_parallel_image_pulls: Option<u32>,
    #[serde(rename = "registryPullQPS")]
    pub registry_pull_qps: u32,
    pub registry_burst: u32,
    #[serde(rename = "imageMinimumGCAge")]
    pub image_minimum_gc_age: String,
    /// "0s": unused images stay until space is short.
    #[serde(rename = "imageMaximumGCAge")]
    pub image_maximum_gc_age: String,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: u32,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: u32,
    /// Signal -> amount or percentage below which pods are evicted at once.
    pub eviction_hard: BTreeMap<String, String>,
    /// The same after a grace period.
    pub eviction_soft: BTreeMap<String, String>,
    pub eviction_soft_grace_period: BTreeMap<String, String>,
    pub eviction_pressure_transition_period: String,
    /// Seconds a softly evicted pod may take at most; 0: its own grace.
    pub eviction_max_pod_grace_period: u32,
    pub system_reserved: BTreeMap<String, String>,
    pub kube_reserved: BTreeMap<String, String>,
    /// `pods`: all pods together are held to what is allocatable.
    pub enforce_node_allocatable: Vec<String>,
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: bool,
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: bool,
    #[serde(rename = "cpuCFSQuotaPeriod")]
    pub cpu_cfs_quota_period: String,
    /// -1: no limit.
    pub pod_pids_limit: i64,
    pub container_log_max_size: String,
    pub container_log_max_files: u32,
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Containers without a seccomp profile get the runtime's.
    pub seccomp_default: bool,
    /// "0s": pods are not ended when the machine shuts down.
    pub shutdown_grace_period: String,
    /// The end of that time, for critical pods.
    pub shutdown_grace_period_critical_pods: String,
    pub crash_loop_back_off: CrashLoopBackOff,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CrashLoopBackOff {
    /// 1s to 300s.
    pub max_container_restart_period: String,
}

impl Default for CrashLoopBackOff {
    fn default() -> Self {
        CrashLoopBackOff { max_container_restart_period: "5m0s".to_owned() }
    }
}

fn signals(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(signal, amount)| ((*signal).to_owned(), (*amount).to_owned())).collect()
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Authentication {
    pub x509: X509,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct X509 {
    #[serde(rename = "clientCAFile")]
    pub client_ca_file: String,
}

impl Default for KubeletConfig {
    fn default() -> Self {
        KubeletConfig {
            pod_logs_dir: "/var/log/pods".to_owned(),
            container_runtime_endpoint: "unix:///run/containerd/containerd.sock".to_owned(),
            cgroup_driver: "cgroupfs".to_owned(),
            cgroup_root: String::new(),
            cluster_dns: None,
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: "/etc/resolv.conf".to_owned(),
            max_pods: 110,
            node_lease_duration_seconds: 40,
            node_status_update_frequency: "10s".to_owned(),
            node_status_report_frequency: "5m".to_owned(),
            address: "0.0.0.0".to_owned(),
            port: 10250,
            tls_cert_file: String::new(),
            tls_private_key_file: String::new(),
            authentication: Authentication::default(),
            streaming_connection_idle_timeout: "4h".to_owned(),
            node_status_max_images: 0,
            static_pod_path: "/etc/kubeedge/manifests".to_owned(),
            file_check_frequency: "20s".to_owned(),
            serialize_image_pulls: true,
            max_parallel_image_pulls: None,
            registry_pull_qps: 5,
            registry_burst: 10,
            image_minimum_gc_age: "2m".to_owned(),
            image_maximum_gc_age: "0s".to_owned(),
            image_gc_high_threshold_percent: 85,
            image_gc_low_threshold_percent: 80,
            eviction_hard: signals(&[
                ("memory.available", "100Mi"),
                ("nodefs.available", "10%"),
                ("nodefs.inodesFree", "5%"),
                ("imagefs.available", "15%"),
                ("imagefs.inodesFree", "5%"),
            ]),
            eviction_soft: BTreeMap::new(),
            eviction_soft_grace_period: BTreeMap::new(),
            eviction_pressure_transition_period: "5m".to_owned(),
            eviction_max_pod_grace_period: 0,
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            enforce_node_allocatable: vec!["pods".to_owned()],
            cgroups_per_qos: true,
            cpu_cfs_quota: true,
            cpu_cfs_quota_period: "100ms".to_owned(),
            pod_pids_limit: -1,
            container_log_max_size: "10Mi".to_owned(),
            container_log_max_files: 5,
            allowed_unsafe_sysctls: Vec::new(),
            seccomp_default: false,
            shutdown_grace_period: "0s".to_owned(),
            shutdown_grace_period_critical_pods: "0s".to_owned(),
            crash_loop_back_off: CrashLoopBackOff::default(),
        }
    }
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
}

/// Limits of the embedded broker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EventBusLimits {
    /// Clients connected at once.
    pub clients: u32,
    pub subscriptions_per_client: u32,
}

impl Default for EventBusLimits {
    fn default() -> Self {
        EventBusLimits { clients: 1024, subscriptions_per_client: 4096 }
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
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeviceTwin {
    pub enable: bool,
    /// Directory of the socket `dmi.sock`.
    pub dmi_sock_path: String,
}

impl Default for DeviceTwin {
    fn default() -> Self {
        DeviceTwin { enable: true, dmi_sock_path: "/etc/kubeedge/".to_owned() }
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
