//! `modules.edged.tailoredKubeletConfig` (spec/transport.md 7.3).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Taint;

/// The keys of `tailoredKubeletConfig` that edged acts on. Durations are Go's ("1m0s").
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KubeletConfig {
    pub pod_logs_dir: String,
    pub container_runtime_endpoint: String,
    /// Images come from the runtime: the same as `containerRuntimeEndpoint`, or empty.
    pub image_service_endpoint: String,
    /// False: the node object is made by somebody else.
    pub register_node: bool,
    /// Taints the node registers with.
    pub register_with_taints: Vec<Taint>,
    pub cgroup_driver: String,
    pub cgroup_root: String,
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Option<Vec<String>>,
    pub cluster_domain: String,
    pub resolv_conf: String,
    pub max_pods: u32,
    /// Pods for each CPU, if that is less than `maxPods`; 0: no limit.
    pub pods_per_core: u32,
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
