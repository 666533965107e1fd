//! Pod conditions owned by the node. Foreign conditions are kept; a transition time moves only with its status.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec};
use native::NODES_CONDITIONS;

use super::super::plan::is_sidecar;
use super::phase::Phase;
use super::whole_seconds;

pub struct Facts<'a> {
    pub spec: &'a PodSpec,
    pub phase: Phase,
    pub init: &'a [ContainerStatus],
    pub regular: &'a [ContainerStatus],
    /// The sandbox is up and has its network.
    pub sandbox_ready: bool,
    pub previous: &'a [PodCondition],
    /// `DisruptionTarget`, if the node takes the pod away.
    pub disruption: Option<PodCondition>,
    pub now: Timestamp,
}

type Claim = (bool, Option<&'static str>, Option<String>);

const TRUE: Claim = (true, None, None);

pub fn compute(facts: &Facts<'_>) -> Vec<PodCondition> {
    let containers = containers_ready(facts);
    let ready = ready(facts, &containers);
    let claims = [(facts.sandbox_ready, None, None), initialized(facts), ready, containers, TRUE];
    let mut conditions: Vec<PodCondition> =
        NODES_CONDITIONS.iter().zip(claims).map(|(kind, claim)| condition(facts, kind, claim)).collect();
    if let Some(mut disruption) = facts.disruption.clone() {
        let known = facts.previous.iter().find(|known| known.type_ == disruption.type_);
        let since = known.filter(|known| known.status == disruption.status);
        disruption.last_transition_time = since
            .and_then(|known| known.last_transition_time.clone())
            .or_else(|| Some(whole_seconds(facts.now)));
        conditions.push(disruption);
    }
    let said = |c: &PodCondition| facts.disruption.as_ref().is_some_and(|own| own.type_ == c.type_);
    conditions.extend(
        facts.previous.iter().filter(|c| !NODES_CONDITIONS.contains(&c.type_.as_str()) && !said(c)).cloned(),
    );
    conditions
}

fn condition(facts: &Facts<'_>, kind: &str, (holds, reason, message): Claim) -> PodCondition {
    let status = if holds { "True" } else { "False" };
    let before =
        facts.previous.iter().find(|condition| condition.type_ == kind && condition.status == status);
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.map(str::to_owned),
        message,
        last_transition_time: before
            .and_then(|condition| condition.last_transition_time.clone())
            .or_else(|| Some(whole_seconds(facts.now))),
        ..PodCondition::default()
    }
}

fn initialized(facts: &Facts<'_>) -> Claim {
    let wanted = facts.spec.init_containers.as_deref().unwrap_or_default();
    let regular_ran = facts.regular.iter().any(|status| status.container_id.is_some());
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|init| {
            !facts.init.iter().any(|status| {
                status.name == init.name
                    && match is_sidecar(init) {
                        true => status.started == Some(true),
                        false => status.ready,
                    }
            })
        })
        .map(|init| init.name.as_str())
        .collect();
    match missing.is_empty() || regular_ran {
        _ if facts.phase == Phase::Succeeded => (true, Some("PodCompleted"), None),
        true => TRUE,
        false => {
            let text = format!("containers with incomplete status: [{}]", missing.join(" "));
            (false, Some("ContainersNotInitialized"), Some(text))
        }
    }
}

fn containers_ready(facts: &Facts<'_>) -> Claim {
    match facts.phase {
        Phase::Succeeded => return (false, Some("PodCompleted"), None),
        Phase::Failed => return (false, Some("PodFailed"), None),
        _ => {}
    }
    let sidecars = facts.init.iter().filter(|status| {
        facts.spec.init_containers.iter().flatten().any(|init| init.name == status.name && is_sidecar(init))
    });
    let unready: Vec<&str> = sidecars
        .chain(facts.regular)
        .filter(|status| !status.ready)
        .map(|status| status.name.as_str())
        .collect();
    if unready.is_empty() {
        return TRUE;
    }
    let text = format!("containers with unready status: [{}]", unready.join(" "));
    (false, Some("ContainersNotReady"), Some(text))
}

fn ready(facts: &Facts<'_>, containers: &Claim) -> Claim {
    if !containers.0 {
        return containers.clone();
    }
    let closed: Vec<String> = facts
        .spec
        .readiness_gates
        .iter()
        .flatten()
        .filter_map(|gate| closed_gate(&gate.condition_type, facts.previous))
        .collect();
    match closed.is_empty() {
        true => TRUE,
        false => (false, Some("ReadinessGatesNotReady"), Some(closed.join(", "))),
    }
}

/// The kubelet's words for a gate that keeps the pod from being ready.
fn closed_gate(gate: &str, conditions: &[PodCondition]) -> Option<String> {
    match conditions.iter().find(|condition| condition.type_ == gate) {
        Some(condition) if condition.status == "True" => None,
        Some(condition) => {
            let status = &condition.status;
            Some(format!("the status of pod readiness gate {gate:?} is not \"True\", but {status}"))
        }
        None => Some(format!("corresponding condition of pod readiness gate {gate:?} does not exist.")),
    }
}
