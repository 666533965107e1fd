//! Whether this node takes a pod (docs/protocol/edge-runtime.md 5.24). Pure; asked once per pod, before anything of it is made.

mod affinity;
mod sysctls;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec, Taint, Toleration};

use super::demand::{Amounts, Demand};
use super::resources::Qos;
use super::spec::all_containers;
use super::stop_decision::StopDecision;

/// What the answer depends on besides the pods.
pub struct Node<'a> {
    pub name: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    pub taints: &'a [Taint],
    pub allocatable: &'a Amounts,
    pub pressure: Pressure,
    pub is_shutting_down: bool,
    /// Patterns (`net.core.*`) of sysctls an administrator allows.
    pub allowed_sysctls: &'a [String],
    pub has_apparmor: bool,
    /// The runtime can leave the image's groups out.
    pub has_strict_groups: bool,
}

/// What the node is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    pub memory: bool,
    pub disk: bool,
    pub pids: bool,
    /// The disk of pods takes no writes.
    pub read_only: bool,
}

impl Pressure {
    fn names(self) -> Vec<&'static str> {
        let all = [
            ("MemoryPressure", self.memory),
            ("DiskPressure", self.disk || self.read_only),
            ("PIDPressure", self.pids),
        ];
        all.into_iter().filter(|(_, holds)| *holds).map(|(name, _)| name).collect()
    }
}

/// Why not.
#[derive(Clone, Debug, PartialEq)]
pub enum AdmissionRefusal {
    /// Nothing on this node would change it.
    StopDecision(StopDecision),
    /// The node lacks so much of each; a critical pod may push others aside.
    Short { missing: Amounts, decision: StopDecision },
}

impl AdmissionRefusal {
    pub fn decision(self) -> StopDecision {
        match self {
            AdmissionRefusal::StopDecision(decision) | AdmissionRefusal::Short { decision, .. } => decision,
        }
    }
}

/// Checks in the kubelet's order. `others` are the active pods of the node.
pub fn check(
    pod: &Pod,
    demand: &Demand,
    node: &Node<'_>,
    others: &[Arc<Demand>],
) -> Result<(), AdmissionRefusal> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let no = |reason: &str, message: &str| {
        Err(AdmissionRefusal::StopDecision(StopDecision::rejected(reason, message)))
    };
    if node.is_shutting_down {
        return no("NodeShutdown", "the node is shutting down");
    }
    if let Some(text) = under_pressure(spec, demand, node.pressure) {
        return no("Evicted", &text);
    }
    if let Some(text) = sysctls::forbidden(spec, node.allowed_sysctls) {
        return no("SysctlForbidden", &text);
    }
    if wants_apparmor(spec) && !node.has_apparmor {
        return no("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host");
    }
    if wants_strict_groups(spec) && !node.has_strict_groups {
        let text = "SupplementalGroupsPolicy=Strict is not supported in this node";
        return no("SupplementalGroupsPolicyNotSupported", text);
    }
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        return no("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS");
    }
    fits(spec, demand, node)?;
    if others.iter().any(|other| ports_clash(demand, other)) {
        let text = "node(s) didn't have free ports for the requested pod ports";
        return no("NodePorts", &format!("Predicate NodePorts failed: {text}"));
    }
    enough(demand, node, others)
}

/// Name, labels and taints.
fn fits(spec: &PodSpec, demand: &Demand, node: &Node<'_>) -> Result<(), AdmissionRefusal> {
    let no = |reason: &str, text: &str| {
        Err(AdmissionRefusal::StopDecision(StopDecision::rejected(
            reason,
            &format!("Predicate {reason} failed: {text}"),
        )))
    };
    if spec.node_name.as_deref().is_some_and(|name| !name.is_empty() && name != node.name) {
        return no("NodeName", "node(s) didn't match the requested node name");
    }
    if !affinity::matches(spec, node.name, node.labels) {
        return no("NodeAffinity", "node(s) didn't match Pod's node affinity/selector");
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let drives_away = |taint: &&Taint| {
        taint.effect == "NoExecute" && !tolerations.iter().any(|toleration| tolerates(toleration, taint))
    };
    if !demand.is_static && node.taints.iter().any(|taint| drives_away(&taint)) {
        return no("TaintToleration", "node(s) had taints that the pod didn't tolerate");
    }
    Ok(())
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let effect = some(&toleration.effect).is_none_or(|effect| effect == taint.effect);
    let exists = toleration.operator.as_deref() == Some("Exists");
    let key = match some(&toleration.key) {
        Some(key) => key == taint.key,
        None => exists,
    };
    let value = exists
        || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    effect && key && value
}

/// What speaks against a pod on a node under pressure.
fn under_pressure(spec: &PodSpec, demand: &Demand, pressure: Pressure) -> Option<String> {
    let names = pressure.names();
    if names.is_empty() || demand.is_critical() {
        return None;
    }
    let taint = Taint {
        key: "node.kubernetes.io/memory-pressure".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    let stands_it = || spec.tolerations.iter().flatten().any(|toleration| tolerates(toleration, &taint));
    if names == ["MemoryPressure"] && (demand.qos != Qos::BestEffort || stands_it()) {
        return None;
    }
    Some(format!("The node had condition: [{}].", names.join(" ")))
}

fn wants_apparmor(spec: &PodSpec) -> bool {
    let own = |kind: &str| kind != "Unconfined";
    let pod = spec.security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref());
    let containers = all_containers(spec)
        .filter_map(|container| container.security_context.as_ref()?.app_armor_profile.as_ref());
    pod.into_iter().chain(containers).any(|profile| own(&profile.type_))
}

fn wants_strict_groups(spec: &PodSpec) -> bool {
    let context = spec.security_context.as_ref();
    context.and_then(|context| context.supplemental_groups_policy.as_deref()) == Some("Strict")
}

fn ports_clash(one: &Demand, other: &Demand) -> bool {
    one.ports.iter().any(|(port, protocol, address)| {
        other.ports.iter().any(|(their_port, their_protocol, theirs)| {
            let same_address = address.is_empty() || theirs.is_empty() || address == theirs;
            port == their_port && protocol == their_protocol && same_address
        })
    })
}

/// Whether the requests fit into what the active pods leave. Extended resources this node does not have are not its
/// business: a scheduler extender may own them.
fn enough(demand: &Demand, node: &Node<'_>, others: &[Arc<Demand>]) -> Result<(), AdmissionRefusal> {
    let mut wanted = demand.requests.clone();
    wanted.insert("pods".to_owned(), 1);
    let mut missing = Amounts::new();
    let mut first = None;
    // Pods first, then by name: the reason names one resource, always the same.
    let mut names: Vec<&String> = wanted.keys().collect();
    names.sort_by_key(|name| (*name != "pods", *name));
    for name in names {
        let Some(capacity) = node.allocatable.get(name) else { continue };
        let requested = wanted.get(name).copied().unwrap_or(0);
        let used: i64 = match name.as_str() {
            "pods" => i64::try_from(others.len()).unwrap_or(i64::MAX),
            _ => others.iter().map(|other| other.request(name)).sum(),
        };
        let left = capacity.saturating_sub(used);
        if requested > 0 && requested > left {
            missing.insert(name.clone(), requested - left);
            let text = format!(
                "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            );
            first.get_or_insert_with(|| StopDecision::rejected(&format!("OutOf{name}"), &text));
        }
    }
    match first {
        Some(decision) => Err(AdmissionRefusal::Short { missing, decision }),
        None => Ok(()),
    }
}

/// Which pods to push aside so that a critical pod finds what is `missing`: those without requests it must not disturb
/// first, then the least important. None if that is not enough. Indices into `others`.
pub fn make_room(missing: &Amounts, priority: i32, others: &[Arc<Demand>]) -> Option<Vec<usize>> {
    let gives = |demand: &Demand, name: &str| if name == "pods" { 1 } else { demand.request(name) };
    let mut candidates: Vec<usize> = (0..others.len())
        .filter(|index| !others[*index].is_critical() && others[*index].priority < priority.max(1))
        .collect();
    let rank = |qos: Qos| match qos {
        Qos::BestEffort => 0,
        Qos::Burstable => 1,
        Qos::Guaranteed => 2,
    };
    candidates.sort_by_key(|index| (others[*index].priority, rank(others[*index].qos)));
    let mut left = missing.clone();
    let mut chosen = Vec::new();
    for index in candidates {
        left.retain(|_, amount| *amount > 0);
        if left.is_empty() {
            break;
        }
        if left.keys().any(|name| gives(&others[index], name) > 0) {
            left.iter_mut().for_each(|(name, amount)| *amount -= gives(&others[index], name));
            chosen.push(index);
        }
    }
    left.values().all(|amount| *amount <= 0).then_some(chosen)
}

#[cfg(test)]
#[path = "admission/tests.rs"]
mod tests;
