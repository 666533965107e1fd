//! The Summary API's form.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    pub node: NodeUsage,
    pub pods: Vec<PodUsage>,
    /// How many sources could not be read; for `resource_scrape_error`.
    #[serde(skip)]
    pub has_failed: bool,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeUsage {
    pub node_name: String,
    #[serde(serialize_with = "time")]
    pub start_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs: Option<Filesystem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeUsage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rlimit: Option<Processes>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodUsage {
    pub pod_ref: PodReference,
    #[serde(serialize_with = "time")]
    pub start_time: Timestamp,
    pub containers: Vec<ContainerUsage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    #[serde(rename = "volume", skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeUsage>,
    #[serde(rename = "ephemeral-storage", skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<Filesystem>,
    #[serde(rename = "process_stats", skip_serializing_if = "Option::is_none")]
    pub process_stats: Option<ProcessCount>,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct PodReference {
    pub name: String,
    pub namespace: String,
    pub uid: String,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerUsage {
    pub name: String,
    #[serde(serialize_with = "time")]
    pub start_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<Filesystem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<Filesystem>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cpu {
    #[serde(serialize_with = "time")]
    pub time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_nano_cores: Option<u64>,
    pub usage_core_nano_seconds: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Memory {
    #[serde(serialize_with = "time")]
    pub time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_bytes: Option<u64>,
    pub working_set_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_faults: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major_page_faults: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Network {
    #[serde(serialize_with = "time")]
    pub time: Timestamp,
    /// The default interface; its values stand beside its name.
    #[serde(flatten)]
    pub default: Option<Interface>,
    pub interfaces: Vec<Interface>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Interface {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_errors: u64,
    pub tx_bytes: u64,
    pub tx_errors: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Filesystem {
    #[serde(serialize_with = "time")]
    pub time: Timestamp,
    pub available_bytes: u64,
    pub capacity_bytes: u64,
    pub used_bytes: u64,
    pub inodes_free: u64,
    pub inodes: u64,
    pub inodes_used: u64,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RuntimeUsage {
    pub image_fs: Filesystem,
    pub container_fs: Filesystem,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Processes {
    #[serde(serialize_with = "time")]
    pub time: Timestamp,
    pub maxpid: u64,
    pub curproc: u64,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeUsage {
    pub name: String,
    #[serde(rename = "pvcRef", skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimReference>,
    #[serde(flatten)]
    pub usage: Filesystem,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct ClaimReference {
    pub name: String,
    pub namespace: String,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct ProcessCount {
    #[serde(rename = "process_count")]
    pub process_count: u64,
}

fn time<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&daemon::clock::rfc3339(*time))
}
