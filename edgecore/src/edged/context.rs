//! What the parts of Edged share: handles, and facts of the node.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use daemon::health::{Beat, Health};
use daemon::metrics::Metrics;
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use super::Settings;
use super::addresses::Addresses;
use super::devices::Devices;
use super::events::Events;
use super::images::collector::Collector;
use super::images::pace::Pace;
use super::node::capacity::Capacity;
use super::node::seen::Seen;
use super::pods::admission::Pressure;
use super::pods::board::Board;
use super::pods::fields::Place;
use super::pods::resolv::NameServers;
use super::runtime::RuntimeFacts;
use super::static_pods::mirrors::Mirrors;
use super::volumes::csi::Csi;
use crate::host::{Host, facts};
use crate::metamanager::{LinkState, Objects, Outbox, Queries};

/// One per Edged, shared by its workers.
pub struct Context {
    pub settings: Settings,
    pub runtime: cri::Runtime,
    pub facts: watch::Receiver<RuntimeFacts>,
    pub objects: Objects,
    pub queries: Queries,
    pub outbox: Outbox,
    pub events: Events,
    pub clock: Clock,
    pub machine: Machine,
    pub addresses: Addresses,
    pub name_servers: NameServers,
    /// Pulls under way: a thin link is better used by few images at a time.
    pub pulls: Semaphore,
    pub pull_pace: Pace,
    pub collector: Collector,
    /// Where the runtime keeps images, once it was asked.
    pub image_place: tokio::sync::Mutex<Option<String>>,
    /// The pods of this node.
    pub board: Board,
    pub capacity: Capacity,
    pub mirrors: Mirrors,
    /// The uid of the node object, once the cloud has told it.
    pub node_uid: watch::Sender<Option<String>>,
    /// What the node object that came last says of this node.
    pub node_seen: watch::Sender<Seen>,
    /// Devices of plugins.
    pub devices: Arc<Devices>,
    /// CSI drivers of this node.
    pub csi: Arc<Csi>,
    /// Whether it was told that another node agent uses the same cgroups.
    pub cgroups_shared: AtomicBool,
    /// What the node is short of.
    pub pressure: watch::Sender<Pressure>,
    /// The machine is going down: no pod is let in any more.
    pub shutdown: watch::Sender<bool>,
    /// Whether the cloud can be reached: a hint whether a registry can.
    pub link: watch::Receiver<LinkState>,
    /// Until when registries are taken for unreachable, for images that are present anyway.
    pub no_registry_until: Mutex<Option<Instant>>,
    /// Shows that the loop over the pods turns.
    pub beat: Beat,
    /// Of all rooms of the program, and what it counts: told by the Node API.
    pub health: Health,
    pub metrics: Metrics,
    /// Told when something was made in the runtime, so that PLEG looks soon.
    pub activity: Arc<Notify>,
}

/// The wall clock, or a test's.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    pub fn wall() -> Clock {
        Clock(Arc::new(daemon::clock::now))
    }

    /// A clock that moves with tokio's, so that tests can pause it.
    pub fn tokio(start: Timestamp) -> Clock {
        let base = tokio::time::Instant::now();
        Clock::by(move || start + base.elapsed())
    }

    /// A clock that asks `now`.
    pub fn by(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(now))
    }

    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

/// What the machine has.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub cpu_milli: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of the file system that holds the pods.
    pub disk: i64,
    /// Bytes by resource name.
    pub huge_pages: Vec<(String, i64)>,
    pub has_apparmor: bool,
    /// One hierarchy of cgroups for all controllers.
    pub has_cgroup2: bool,
}

impl Machine {
    pub fn read(host: &dyn Host, settings: &Settings) -> Machine {
        Machine {
            cpu_milli: i64::from(host.cpus()) * 1000,
            memory: facts::memory_bytes(host),
            disk: host
                .disk(&settings.root_dir)
                .map_or(0, |disk| i64::try_from(disk.bytes).unwrap_or(i64::MAX)),
            huge_pages: facts::huge_pages(host),
            has_apparmor: facts::has_apparmor(host),
            has_cgroup2: facts::has_cgroup2(host),
        }
    }
}

impl Context {
    pub fn is_shutting_down(&self) -> bool {
        *self.shutdown.borrow()
    }

    /// What pods may take of a resource, in its unit; zero if the node has none.
    pub fn allocatable(&self, resource: &str) -> i64 {
        self.capacity.allocatable(&self.machine, &self.settings).get(resource).copied().unwrap_or(0)
    }

    /// Where a pod runs, as its environment and files may tell.
    pub fn place(&self, pod_ips: Vec<String>) -> Place {
        Place {
            node: self.settings.node.as_str().to_owned(),
            node_ips: self.addresses.all(),
            pod_ips,
            cpu_milli: self.machine.cpu_milli,
            memory: self.machine.memory,
        }
    }
}

/// An error and its sources in one line, for statuses, events and logs.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = match cause.downcast_ref::<tonic::Status>() {
            Some(status) => format!("{:?}: {}", status.code(), status.message()),
            None => cause.to_string(),
        };
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}
