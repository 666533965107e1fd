//! The node's status: what it has, how it is. Computing is pure; the reporter decides what is worth sending.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{NodeAddress, NodeCondition, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};

use super::Node;
use super::object::architecture;
use crate::edged::context::Context;
use crate::edged::runtime::RuntimeFacts;
use crate::edged::status::whole_seconds;
use crate::host::{Disk, Host, facts};

/// The kubelet this node behaves like, and who it is.
const KUBELET_VERSION: &str = concat!("v1.33.0-causeway-", env!("CARGO_PKG_VERSION"));
/// Hard eviction thresholds (KubeEdge's defaults): below them the node is under pressure, and they are not offered.
const MEMORY_KEPT: i64 = 100 << 20;
const DISK_KEPT_PERCENT: u64 = 10;
const INODES_KEPT_PERCENT: u64 = 5;
/// A relist older than this is trouble.
const PLEG_LIMIT: Duration = Duration::from_secs(180);

/// How old the last relist is; none before the first.
pub const PLEG_UNKNOWN: Option<Duration> = Some(Duration::ZERO);

/// What a status is computed from.
pub struct Facts {
    pub name: String,
    pub addresses: Vec<String>,
    pub runtime: RuntimeFacts,
    pub relist_age: Option<Duration>,
    pub max_pods: u32,
    pub cpus: i64,
    pub memory: i64,
    pub memory_available: i64,
    pub disk: Disk,
    pub huge_pages: Vec<(String, i64)>,
    pub processes: (u64, u64),
    pub identity: facts::Identity,
}

impl Facts {
    pub fn gather(node: &Node) -> Facts {
        let age = node.pleg.borrow().map(|at| at.elapsed());
        Facts::of(&node.context, &*node.host, age)
    }

    pub fn of(context: &Context, host: &dyn Host, relist_age: Option<Duration>) -> Facts {
        let settings = &context.settings;
        Facts {
            name: settings.node.as_str().to_owned(),
            addresses: context.machine.node_ips.clone(),
            runtime: context.facts.borrow().clone(),
            relist_age,
            max_pods: settings.max_pods,
            cpus: context.machine.cpu_milli / 1000,
            memory: context.machine.memory,
            memory_available: facts::memory_available(host),
            disk: host.disk(&settings.root_dir).unwrap_or_default(),
            huge_pages: facts::huge_pages(host),
            processes: facts::processes(host),
            identity: facts::identity(host),
        }
    }
}

/// The status without the times of its conditions.
pub fn compute(facts: &Facts) -> NodeStatus {
    let address = |kind: &str, text: &str| NodeAddress { type_: kind.to_owned(), address: text.to_owned() };
    let internal = facts.addresses.iter().map(|ip| address("InternalIP", ip));
    let identity = &facts.identity;
    NodeStatus {
        addresses: Some(internal.chain([address("Hostname", &facts.name)]).collect()),
        capacity: Some(capacity(facts)),
        allocatable: Some(allocatable(facts)),
        conditions: Some(conditions(facts)),
        node_info: Some(NodeSystemInfo {
            machine_id: identity.machine_id.clone(),
            system_uuid: identity.system_uuid.clone(),
            boot_id: identity.boot_id.clone(),
            kernel_version: identity.kernel.clone(),
            os_image: identity.os_image.clone(),
            container_runtime_version: format!("{}://{}", facts.runtime.name, facts.runtime.version),
            kubelet_version: KUBELET_VERSION.to_owned(),
            operating_system: "linux".to_owned(),
            architecture: architecture().to_owned(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

type Amounts = BTreeMap<String, Quantity>;

fn capacity(facts: &Facts) -> Amounts {
    let mut amounts = Amounts::from([
        ("cpu".to_owned(), Quantity(facts.cpus.to_string())),
        ("memory".to_owned(), kibibytes(facts.memory)),
        ("ephemeral-storage".to_owned(), kibibytes(i64::try_from(facts.disk.bytes).unwrap_or(i64::MAX))),
        ("pods".to_owned(), Quantity(facts.max_pods.to_string())),
    ]);
    amounts.extend(facts.huge_pages.iter().map(|(name, bytes)| (name.clone(), kibibytes(*bytes))));
    amounts
}

fn kibibytes(bytes: i64) -> Quantity {
    match bytes {
        0 => Quantity("0".to_owned()),
        bytes => Quantity(format!("{}Ki", bytes / 1024)),
    }
}

fn allocatable(facts: &Facts) -> Amounts {
    let mut amounts = capacity(facts);
    let pages: i64 = facts.huge_pages.iter().map(|(_, bytes)| bytes).sum();
    amounts.insert("memory".to_owned(), kibibytes((facts.memory - MEMORY_KEPT - pages).max(0)));
    let disk = facts.disk.bytes / 100 * (100 - DISK_KEPT_PERCENT);
    amounts.insert("ephemeral-storage".to_owned(), Quantity(disk.to_string()));
    amounts
}

fn conditions(facts: &Facts) -> Vec<NodeCondition> {
    let memory = facts.memory_available > 0 && facts.memory_available < MEMORY_KEPT;
    let below = |left: u64, all: u64, percent: u64| all > 0 && left < all / 100 * percent;
    let disk = below(facts.disk.available, facts.disk.bytes, DISK_KEPT_PERCENT)
        || below(facts.disk.inodes_free, facts.disk.inodes, INODES_KEPT_PERCENT);
    let (limit, running) = facts.processes;
    let pids = limit > 0 && limit.saturating_sub(running) < limit / 100;
    let trouble = trouble(facts);
    let ready = match trouble.is_empty() {
        true => condition("Ready", true, "KubeletReady", "kubelet is posting ready status"),
        false => condition("Ready", false, "KubeletNotReady", &trouble),
    };
    let pressure = |kind, is, yes: [&str; 2], no: [&str; 2]| {
        let [reason, text] = if is { yes } else { no };
        condition(kind, is, reason, text)
    };
    vec![
        pressure(
            "MemoryPressure",
            memory,
            ["KubeletHasInsufficientMemory", "kubelet has insufficient memory available"],
            ["KubeletHasSufficientMemory", "kubelet has sufficient memory available"],
        ),
        pressure(
            "DiskPressure",
            disk,
            ["KubeletHasDiskPressure", "kubelet has disk pressure"],
            ["KubeletHasNoDiskPressure", "kubelet has no disk pressure"],
        ),
        pressure(
            "PIDPressure",
            pids,
            ["KubeletHasInsufficientPID", "kubelet has insufficient PID available"],
            ["KubeletHasSufficientPID", "kubelet has sufficient PID available"],
        ),
        ready,
    ]
}

fn trouble(facts: &Facts) -> String {
    let mut troubles = Vec::new();
    if !facts.runtime.ready {
        troubles.push(format!("container runtime is down: {}", facts.runtime.trouble));
    } else if !facts.runtime.network_ready {
        troubles.push(format!("container runtime network not ready: {}", facts.runtime.trouble));
    }
    match facts.relist_age {
        None => troubles.push("PLEG is not healthy: pleg has yet to be successful".to_owned()),
        Some(age) if age > PLEG_LIMIT => {
            troubles.push(format!("PLEG is not healthy: pleg was last seen active {}s ago", age.as_secs()));
        }
        Some(_) => {}
    }
    troubles.join("; ")
}

fn condition(kind: &str, holds: bool, reason: &str, message: &str) -> NodeCondition {
    NodeCondition {
        type_: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..NodeCondition::default()
    }
}

/// Knows what was sent last, and since when each condition holds.
#[derive(Default)]
pub struct Reporter {
    sent: Option<(NodeStatus, Timestamp)>,
    /// Condition -> its status and since when.
    since: BTreeMap<String, (String, Timestamp)>,
}

impl Reporter {
    /// The next status is sent whatever was sent before.
    pub fn forget(&mut self) {
        self.sent = None;
    }

    /// The patch to send, if the status changed or `every` has passed since the last one.
    pub fn next(&mut self, status: NodeStatus, now: Timestamp, every: Duration) -> Option<String> {
        let due = match &self.sent {
            Some((sent, at)) => {
                let age = Duration::try_from(now.duration_since(*at)).unwrap_or_default();
                !says_the_same(sent, &status) || age >= every
            }
            None => true,
        };
        if !due {
            return None;
        }
        let patch = self.patch(&status, now);
        self.sent = Some((status, now));
        Some(patch)
    }

    fn patch(&mut self, status: &NodeStatus, now: Timestamp) -> String {
        let mut timed = status.clone();
        for condition in timed.conditions.iter_mut().flatten() {
            let known = self.since.get(&condition.type_).filter(|(status, _)| *status == condition.status);
            let since = known.map_or(now, |(_, since)| *since);
            self.since.insert(condition.type_.clone(), (condition.status.clone(), since));
            condition.last_heartbeat_time = Some(whole_seconds(now));
            condition.last_transition_time = Some(whole_seconds(since));
        }
        let mut body = serde_json::to_value(&timed).unwrap_or_default();
        if let Some(Value::Array(addresses)) = body.get_mut("addresses") {
            addresses.insert(0, json!({"$patch": "replace"}));
        }
        json!({"status": body}).to_string()
    }
}

/// The messages of conditions may carry ages; they are no news.
fn says_the_same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let plain = |status: &NodeStatus| {
        let mut status = status.clone();
        status.conditions.iter_mut().flatten().for_each(|condition| condition.message = None);
        status
    };
    plain(a) == plain(b)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
