//! What Edged is told by the configuration, already checked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use message::NodeName;

/// How cgroups are named and made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    Cgroupfs,
    Systemd,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub node: NodeName,
    /// The node's address; found by the default route when absent.
    pub node_ip: Option<IpAddr>,
    /// Holds `pods/<uid>`.
    pub root_dir: PathBuf,
    pub pod_logs_dir: PathBuf,
    /// `unix:///run/containerd/containerd.sock`
    pub runtime_endpoint: String,
    /// Used when the runtime does not say which driver it uses.
    pub cgroup_driver: CgroupDriver,
    /// The cgroup above `kubepods`: empty or `/` for the root.
    pub cgroup_root: String,
    /// Labels set at registration in addition to the standard ones.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub max_pods: u32,
    pub register_node: bool,
    pub register_schedulable: bool,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    pub resolv_conf: PathBuf,
    /// How often the node's status is computed.
    pub status_interval: Duration,
    /// How often it is sent although nothing changed.
    pub status_report_interval: Duration,
    pub lease_seconds: u32,
    /// The port of the kubelet API, told at registration.
    pub kubelet_port: u16,
    /// Kubernetes events are sent to the cloud.
    pub report_events: bool,
}

impl Settings {
    /// KubeEdge's defaults (spec/edge-runtime.md 5.1).
    pub fn with_defaults(node: NodeName) -> Settings {
        Settings {
            node,
            node_ip: None,
            root_dir: PathBuf::from("/var/lib/kubelet"),
            pod_logs_dir: PathBuf::from("/var/log/pods"),
            runtime_endpoint: "unix:///run/containerd/containerd.sock".to_owned(),
            cgroup_driver: CgroupDriver::Cgroupfs,
            cgroup_root: String::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            taints: Vec::new(),
            max_pods: 110,
            register_node: true,
            register_schedulable: true,
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            status_interval: Duration::from_secs(10),
            status_report_interval: Duration::from_secs(300),
            lease_seconds: 40,
            kubelet_port: 10350,
            report_events: false,
        }
    }
}
