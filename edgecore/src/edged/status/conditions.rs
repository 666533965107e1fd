//! Pod conditions owned by the node. Foreign conditions are kept; a transition time moves only with its status.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec};
use native::NODES_CONDITIONS;

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
    conditions
        .extend(facts.previous.iter().filter(|c| !NODES_CONDITIONS.contains(&c.type_.as_str())).cloned());
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
            !facts
                .init
                .iter()
                .any(|status| status.name == init.name && (status.ready || status.started == Some(true)))
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
        facts
            .spec
            .init_containers
            .iter()
            .flatten()
            .any(|init| init.name == status.name && crate::edged::pods::plan::is_sidecar(init))
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
    let gates = facts.spec.readiness_gates.iter().flatten();
    let closed = gates
        .filter(|gate| !facts.previous.iter().any(|c| c.type_ == gate.condition_type && c.status == "True"))
        .count();
    match closed {
        0 => TRUE,
        _ => {
            let text = format!("{closed} readiness gates are not true");
            (false, Some("ReadinessGatesNotReady"), Some(text))
        }
    }
}
