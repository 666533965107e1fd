//! What the workers of pods use.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use daemon::health::Beat;
use tokio::sync::{Notify, watch};

use super::resolv::NameServers;
use crate::static_pods::mirrors::Mirrors;
use deviceplugins::PluginDevices;
use images::Images;
use metamanager::{Outbox, Queries};
use nodebase::addresses::Addresses;
use nodebase::base::Base;
use nodestatus::capacity::Capacity;
use nodestatus::seen::NodeView;
use podmodel::fields::NodeFacts;
use volumes::csi::Csi;

/// One for all pods.
pub struct Context {
    pub base: Arc<Base>,
    pub queries: Queries,
    pub outbox: Outbox,
    pub addresses: Arc<Addresses>,
    pub name_servers: NameServers,
    pub images: Arc<Images>,
    pub capacity: Arc<Capacity>,
    pub mirrors: Mirrors,
    /// What the node object that came last says of this node.
    pub node_seen: watch::Sender<NodeView>,
    /// Devices of plugins.
    pub devices: Arc<PluginDevices>,
    /// CSI drivers of this node.
    pub csi: Arc<Csi>,
    /// Whether it was told that another node agent uses the same cgroups.
    pub cgroups_shared: AtomicBool,
    /// Shows that the loop over the pods turns.
    pub beat: Beat,
    /// Told when something was made in the runtime, so that PLEG looks soon.
    pub activity: Arc<Notify>,
}

impl Context {
    /// What pods may take of a resource, in its unit; zero if the node has none.
    pub fn allocatable(&self, resource: &str) -> i64 {
        let all = self.capacity.allocatable(&self.base.machine, &self.base.settings);
        all.get(resource).copied().unwrap_or(0)
    }

    /// Where a pod runs, as its environment and files may tell.
    pub fn place(&self, pod_ips: Vec<String>) -> NodeFacts {
        NodeFacts {
            node: self.base.settings.node.as_str().to_owned(),
            node_ips: self.addresses.all(),
            pod_ips,
            cpu_milli: self.base.machine.cpu_milli,
            memory: self.base.machine.memory,
        }
    }
}
