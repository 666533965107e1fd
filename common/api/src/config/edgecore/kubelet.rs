//! `modules.edged.tailoredKubeletConfig` (docs/protocol/transport.md 7.3).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Taint;

/// The keys of `tailoredKubeletConfig` that edged acts on. Durations are Go's ("1m0s").
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KubeletConfig {
    /// Folder of the containers' logs.
    pub pod_logs_dir: String,
    /// Socket of the container runtime (CRI v1).
    pub container_runtime_endpoint: String,
    /// Images come from the runtime: the same as `containerRuntimeEndpoint`, or empty.
    pub image_service_endpoint: String,
    /// False: the node object is made by somebody else.
    pub register_node: bool,
    /// Taints the node registers with.
    pub register_with_taints: Vec<Taint>,
    /// `cgroupfs` or `systemd`; counts where the runtime does not say which it uses.
    pub cgroup_driver: String,
    /// Cgroup below which `kubepods` is made; empty: the root.
    pub cgroup_root: String,
    /// DNS servers of pods with the policy ClusterFirst; absent: they get the host's.
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Option<Vec<String>>,
    /// Domain of Services, for search lists and full names of pods.
    pub cluster_domain: String,
    /// The host's resolv.conf that pods get theirs from.
    pub resolv_conf: String,
    /// Most pods of the node.
    pub max_pods: u32,
    /// Pods for each CPU, if that is less than `maxPods`; 0: no limit.
    pub pods_per_core: u32,
    /// Seconds for which the node's lease is good; it is renewed after a quarter of that.
    pub node_lease_duration_seconds: u32,
    /// How often the node's status is computed; it is sent when it changed.
    pub node_status_update_frequency: String,
    /// How often the node's status is sent though nothing changed.
    pub node_status_report_frequency: String,
    /// Address of the Node API's TLS port, which is open when `tlsCertFile`, `tlsPrivateKeyFile` and
    /// `authentication.x509.clientCAFile` are named, or with `serverTLSBootstrap`. KubeEdge's default is 127.0.0.1.
    pub address: String,
    /// Port of the Node API's TLS port.
    pub port: u16,
    /// Certificate of that port, PEM.
    pub tls_cert_file: String,
    /// Key of that certificate, PEM.
    pub tls_private_key_file: String,
    /// Whether the node asks the cluster for that certificate (signer `kubernetes.io/kubelet-serving`) and renews it, where
    /// `tlsCertFile` and `tlsPrivateKeyFile` are empty.
    #[serde(rename = "serverTLSBootstrap")]
    pub server_tls_bootstrap: bool,
    /// Who may use that port; `modules.edged.nodeAPI` says which of their names.
    pub authentication: Authentication,
    /// Time without data after which an exec, attach or port-forward is ended.
    pub streaming_connection_idle_timeout: String,
    /// Images told in the node's status; KubeEdge tells none.
    pub node_status_max_images: u32,
    /// Folder (or file) of static pods.
    pub static_pod_path: String,
    /// How often the folder of static pods is looked at.
    pub file_check_frequency: String,
    /// Whether images are pulled one at a time.
    pub serialize_image_pulls: bool,
    /// Counts when `serializeImagePulls` is off; absent: as many as there are pods.
    pub max_parallel_image_pulls: Option<u32>,
    /// Pulls per second, on the average; 0: no limit.
    #[serde(rename = "registryPullQPS")]
    pub registry_pull_qps: u32,
    /// Pulls at once beyond that average.
    pub registry_burst: u32,
    /// Age below which an unused image stays.
    #[serde(rename = "imageMinimumGCAge")]
    pub image_minimum_gc_age: String,
    /// Age from which an unused image is removed; "0s": unused images stay until space is short.
    #[serde(rename = "imageMaximumGCAge")]
    pub image_maximum_gc_age: String,
    /// Percent of the images' file system in use from which unused images are removed.
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: u32,
    /// Percent in use at which that ends.
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: u32,
    /// Signal -> amount or percentage below which pods are evicted at once.
    pub eviction_hard: BTreeMap<String, String>,
    /// Signal -> amount or percentage below which pods are evicted when that has lasted for `evictionSoftGracePeriod`.
    pub eviction_soft: BTreeMap<String, String>,
    /// Signal -> how long a soft threshold is borne.
    pub eviction_soft_grace_period: BTreeMap<String, String>,
    /// How long the node calls itself short after the signal has recovered.
    pub eviction_pressure_transition_period: String,
    /// Seconds a softly evicted pod may take at most; 0: its own grace.
    pub eviction_max_pod_grace_period: u32,
    /// Resource -> amount kept from pods for the system.
    pub system_reserved: BTreeMap<String, String>,
    /// Resource -> amount kept from pods for EdgeCore and the runtime.
    pub kube_reserved: BTreeMap<String, String>,
    /// `pods`: all pods together are held to what is allocatable. `none` and an empty list enforce nothing; others are
    /// refused.
    pub enforce_node_allocatable: Vec<String>,
    /// Whether pods have cgroups by their class.
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: bool,
    /// Whether CPU limits are enforced.
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: bool,
    /// Period in which a CPU limit is counted.
    #[serde(rename = "cpuCFSQuotaPeriod")]
    pub cpu_cfs_quota_period: String,
    /// Most processes of a pod; -1: no limit.
    pub pod_pids_limit: i64,
    /// Size at which a container's log is rotated.
    pub container_log_max_size: String,
    /// Files of a container's log, the current one among them.
    pub container_log_max_files: u32,
    /// Sysctls (`net.core.*`) that pods may set beyond the safe ones.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Containers without a seccomp profile get the runtime's.
    pub seccomp_default: bool,
    /// Time that pods get to end when the machine shuts down; "0s": they are not ended.
    pub shutdown_grace_period: String,
    /// The part of that time, at its end, that critical pods get.
    pub shutdown_grace_period_critical_pods: String,
    /// Pauses between starts of a container that crashes.
    pub crash_loop_back_off: CrashLoopBackOff,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CrashLoopBackOff {
    /// Longest pause, 1s to 300s.
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
    /// By client certificate.
    pub x509: X509,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct X509 {
    /// CA of the clients' certificates, PEM. Empty: the TLS port is not open; with `serverTLSBootstrap`, the CA by which
    /// CloudCore trusts the API server counts.
    #[serde(rename = "clientCAFile")]
    pub client_ca_file: String,
}

impl Default for KubeletConfig {
    fn default() -> Self {
        KubeletConfig {
            pod_logs_dir: "/var/log/pods".to_owned(),
            container_runtime_endpoint: "unix:///run/containerd/containerd.sock".to_owned(),
            image_service_endpoint: String::new(),
            register_node: true,
            register_with_taints: Vec::new(),
            cgroup_driver: "cgroupfs".to_owned(),
            cgroup_root: String::new(),
            cluster_dns: None,
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: "/etc/resolv.conf".to_owned(),
            max_pods: 110,
            pods_per_core: 0,
            node_lease_duration_seconds: 40,
            node_status_update_frequency: "10s".to_owned(),
            node_status_report_frequency: "5m".to_owned(),
            address: "0.0.0.0".to_owned(),
            port: 10250,
            tls_cert_file: String::new(),
            tls_private_key_file: String::new(),
            server_tls_bootstrap: false,
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
