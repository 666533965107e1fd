//! What Edged is told by the configuration, already checked.

pub mod logind;
pub mod node_api;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use message::NodeName;

use logind::Programs;
use podmodel::cgroups::{CgroupDriver, Cgroups};

#[derive(Clone, Debug)]
pub struct Settings {
    pub node: NodeName,
    /// The node's address, one of each family, or the unspecified one of the family that comes first; found by the default
    /// routes where there is none.
    pub node_ips: Vec<IpAddr>,
    /// Holds `pods/<uid>`.
    pub root_dir: PathBuf,
    pub pod_logs_dir: PathBuf,
    /// `unix:///run/containerd/containerd.sock`
    pub runtime_endpoint: String,
    /// Used when the runtime does not say which driver it uses.
    pub cgroup_driver: CgroupDriver,
    /// The cgroup above `kubepods`: empty or `/` for the root.
    pub cgroup_root: String,
    /// Where node agents of this machine say which cgroups they use.
    pub locks_dir: PathBuf,
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
    /// The name servers systemd-resolved asks, for pods, which cannot reach its own.
    pub resolved_conf: PathBuf,
    /// How often the node's status is computed.
    pub status_interval: Duration,
    /// How often it is sent although nothing changed.
    pub status_report_interval: Duration,
    pub lease_seconds: u32,
    /// The port of the kubelet API, told at registration.
    pub kubelet_port: u16,
    /// `None`: the Node API is not served.
    pub server: Option<node_api::Settings>,
    /// Kubernetes events are sent to the cloud.
    pub report_events: bool,
    pub max_images_told: usize,
    /// Folder of pods that this node runs without being told to by the cloud.
    pub static_pods: PathBuf,
    pub static_pods_check: Duration,
    pub images: Images,
    pub eviction: Eviction,
    /// What pods may not have, by resource; CPU in millicores.
    pub reserved: BTreeMap<String, i64>,
    pub cgroups: Cgroups,
    pub logs: Logs,
    pub allowed_sysctls: Vec<String>,
    pub seccomp_default: bool,
    pub shutdown: Shutdown,
    pub shutdown_programs: Programs,
    /// The longest pause before a container that crashes starts again.
    pub longest_restart: Duration,
}

#[derive(Clone, Debug)]
pub struct Images {
    pub parallel_pulls: usize,
    /// Pulls a second, and how many at once after a rest.
    pub pulls_per_second: u32,
    pub burst: u32,
    /// Percent of the image file system in use at which unused images go, and down to which.
    pub high_percent: u64,
    pub low_percent: u64,
    /// Unused for so long at least.
    pub least_age: Duration,
    /// Unused for so long, an image goes in any case; zero: never.
    pub most_age: Duration,
}

/// A signal may not fall below this.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Floor {
    Amount(u64),
    Percent(f64),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// `memory.available`, `nodefs.inodesFree`, ...
    pub signal: String,
    pub floor: Floor,
    /// How long it may be below; zero for hard thresholds.
    pub grace: Duration,
}

#[derive(Clone, Debug)]
pub struct Eviction {
    pub thresholds: Vec<Threshold>,
    /// A pressure stays for so long after the last sign of it.
    pub transition: Duration,
    /// The longest grace of a softly evicted pod; zero: its own.
    pub max_grace: Duration,
}

#[derive(Clone, Copy, Debug)]
pub struct Logs {
    pub max_bytes: u64,
    pub max_files: usize,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Shutdown {
    /// All of the time pods have when the machine shuts down; zero: they are not asked.
    pub grace: Duration,
    /// The end of it, for critical pods.
    pub critical: Duration,
}

impl Settings {
    /// KubeEdge's defaults (docs/protocol/edge-runtime.md 5.1).
    pub fn with_defaults(node: NodeName) -> Settings {
        Settings {
            node,
            node_ips: Vec::new(),
            root_dir: PathBuf::from("/var/lib/kubelet"),
            pod_logs_dir: PathBuf::from("/var/log/pods"),
            runtime_endpoint: "unix:///run/containerd/containerd.sock".to_owned(),
            cgroup_driver: CgroupDriver::Cgroupfs,
            cgroup_root: String::new(),
            locks_dir: PathBuf::from("/run/causeway"),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            taints: Vec::new(),
            max_pods: 110,
            register_node: true,
            register_schedulable: true,
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            resolved_conf: PathBuf::from("/run/systemd/resolve/resolv.conf"),
            status_interval: Duration::from_secs(10),
            status_report_interval: Duration::from_secs(300),
            lease_seconds: 40,
            kubelet_port: 10350,
            server: None,
            report_events: false,
            max_images_told: 0,
            static_pods: PathBuf::from("/etc/kubeedge/manifests"),
            static_pods_check: Duration::from_secs(20),
            images: Images {
                parallel_pulls: 1,
                pulls_per_second: 5,
                burst: 10,
                high_percent: 85,
                low_percent: 80,
                least_age: Duration::from_secs(120),
                most_age: Duration::ZERO,
            },
            eviction: Eviction {
                thresholds: default_thresholds(),
                transition: Duration::from_secs(300),
                max_grace: Duration::ZERO,
            },
            reserved: BTreeMap::new(),
            cgroups: Cgroups::default(),
            logs: Logs { max_bytes: 10 << 20, max_files: 5 },
            allowed_sysctls: Vec::new(),
            seccomp_default: false,
            shutdown: Shutdown::default(),
            shutdown_programs: Programs::default(),
            longest_restart: Duration::from_secs(300),
        }
    }
}

/// KubeEdge's hard thresholds (docs/protocol/edge-runtime.md 5.1).
fn default_thresholds() -> Vec<Threshold> {
    let hard = |signal: &str, floor| Threshold { signal: signal.to_owned(), floor, grace: Duration::ZERO };
    vec![
        hard("memory.available", Floor::Amount(100 << 20)),
        hard("nodefs.available", Floor::Percent(10.0)),
        hard("nodefs.inodesFree", Floor::Percent(5.0)),
        hard("imagefs.available", Floor::Percent(15.0)),
        hard("imagefs.inodesFree", Floor::Percent(5.0)),
    ]
}
