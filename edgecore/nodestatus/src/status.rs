//! The node's status: what it has, how it is. Computing is pure; the reporter decides what is worth sending.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, Node as ApiNode, NodeAddress, NodeCondition, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use message::Json;
use serde_json::{Value, json};

use super::Node;
use super::architecture::architecture;
use super::seen::NodeView;
use nodebase::events::Kind;
use nodebase::host::facts;
use nodebase::runtime::RuntimeFacts;
use podmodel::admission::Pressure;
use podmodel::demand::Amounts;
use podmodel::status::whole_seconds;

/// The kubelet this node behaves like, and who it is.
const KUBELET_VERSION: &str = concat!("v1.33.0-causeway-", env!("CARGO_PKG_VERSION"));
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
    pub capacity: Amounts,
    pub allocatable: Amounts,
    pub pressure: Pressure,
    pub is_shutting_down: bool,
    /// Images on the node with their names, the largest first; as many as are to be told.
    pub images: Vec<ContainerImage>,
    pub identity: facts::Identity,
}

impl Facts {
    pub fn gather(node: &Node) -> Facts {
        let age = node.pleg.borrow().map(|at| at.elapsed());
        Facts::of(node, age)
    }

    pub fn of(node: &Node, relist_age: Option<Duration>) -> Facts {
        let settings = &node.base.settings;
        Facts {
            name: settings.node.as_str().to_owned(),
            addresses: node.addresses.all(),
            runtime: node.base.facts.borrow().clone(),
            relist_age,
            capacity: node.capacity.total(&node.base.machine, settings),
            allocatable: node.capacity.allocatable(&node.base.machine, settings),
            pressure: *node.base.pressure.borrow(),
            is_shutting_down: node.base.is_shutting_down(),
            images: Vec::new(),
            identity: facts::identity(&*node.host),
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
        capacity: Some(written(&facts.capacity)),
        allocatable: Some(written(&facts.allocatable)),
        images: Some(facts.images.clone()).filter(|images| !images.is_empty()),
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

/// Amounts as the API writes them.
fn written(amounts: &Amounts) -> BTreeMap<String, Quantity> {
    let text = |name: &str, amount: i64| match name {
        "cpu" if amount % 1000 == 0 => (amount / 1000).to_string(),
        "cpu" => format!("{amount}m"),
        "memory" | "ephemeral-storage" if amount > 0 => format!("{}Ki", amount / 1024),
        huge if huge.starts_with("hugepages-") && amount > 0 => format!("{}Ki", amount / 1024),
        _ => amount.to_string(),
    };
    amounts.iter().map(|(name, amount)| (name.clone(), Quantity(text(name, *amount)))).collect()
}

fn conditions(facts: &Facts) -> Vec<NodeCondition> {
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
            facts.pressure.memory,
            ["KubeletHasInsufficientMemory", "kubelet has insufficient memory available"],
            ["KubeletHasSufficientMemory", "kubelet has sufficient memory available"],
        ),
        pressure(
            "DiskPressure",
            facts.pressure.disk || facts.pressure.read_only,
            match facts.pressure.read_only {
                true => ["KubeletDiskIsReadOnly", "the disk of the kubelet's folder is mounted read-only"],
                false => ["KubeletHasDiskPressure", "kubelet has disk pressure"],
            },
            ["KubeletHasNoDiskPressure", "kubelet has no disk pressure"],
        ),
        pressure(
            "PIDPressure",
            facts.pressure.pids,
            ["KubeletHasInsufficientPID", "kubelet has insufficient PID available"],
            ["KubeletHasSufficientPID", "kubelet has sufficient PID available"],
        ),
        ready,
    ]
}

fn trouble(facts: &Facts) -> String {
    let mut troubles = Vec::new();
    if facts.is_shutting_down {
        troubles.push("node is shutting down".to_owned());
    }
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

    /// Takes over what the API says of the node, so that a restart of this program is no change of its conditions.
    pub fn learn(&mut self, node: &ApiNode) {
        let conditions = node.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
        for condition in conditions {
            let Some(Time(since)) = condition.last_transition_time.clone() else { continue };
            self.since.insert(condition.type_.clone(), (condition.status.clone(), since));
        }
    }

    /// True if the API says something else of the node than what it was told.
    pub fn is_contradicted_by(&self, seen: &NodeView) -> bool {
        let says =
            |kind: &String, status: &String| self.since.get(kind).is_some_and(|(told, _)| told != status);
        let is_ready = self.since.get("Ready").is_some_and(|(told, _)| told == "True");
        seen.conditions.iter().any(|(kind, status)| says(kind, status)) || (seen.is_given_up && is_ready)
    }

    /// The events for conditions that are not as they were told last (the kubelet's reasons).
    pub fn turns(&self, status: &NodeStatus) -> Vec<(Kind, &'static str)> {
        let turned = status.conditions.iter().flatten().filter(|condition| {
            let told = self.since.get(&condition.type_).map(|(told, _)| told);
            // A node that has just been made is not ready yet, which is no news.
            told.map_or(condition.type_ != "Ready", |told| *told != condition.status)
        });
        let named =
            turned.filter_map(|condition| match (condition.type_.as_str(), condition.status == "True") {
                ("Ready", true) => Some("NodeReady"),
                ("Ready", false) => Some("NodeNotReady"),
                ("MemoryPressure", true) => Some("NodeHasInsufficientMemory"),
                ("MemoryPressure", false) => Some("NodeHasSufficientMemory"),
                ("DiskPressure", true) => Some("NodeHasDiskPressure"),
                ("DiskPressure", false) => Some("NodeHasNoDiskPressure"),
                ("PIDPressure", true) => Some("NodeHasInsufficientPID"),
                ("PIDPressure", false) => Some("NodeHasSufficientPID"),
                _ => None,
            });
        named.map(|reason| (Kind::Normal, reason)).collect()
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
        let mut body: Value = Json::encode(&timed).and_then(|json| json.parse()).unwrap_or_default();
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
