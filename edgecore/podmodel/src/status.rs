//! The status of a pod: computed from its spec and what the runtime holds, sent as a patch when it changed. Pure.

pub mod conditions;
pub mod containers;
pub mod patch;
pub mod phase;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::observed::Observed;
use super::resources;
use super::stop_decision::{Disposition, StopDecision};

/// Why a container could not be started; kept until it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The waiting reason the API shows: `ErrImagePull`, `CrashLoopBackOff`, ...
    pub reason: &'static str,
    pub message: String,
}

/// Everything a status depends on.
pub struct View<'a> {
    pub pod: &'a Pod,
    pub spec: &'a PodSpec,
    pub observed: &'a Observed,
    pub failures: &'a BTreeMap<String, Failure>,
    /// The status computed before, or the stored one after a start.
    pub previous: &'a PodStatus,
    /// Ids of running containers whose readiness probe has not succeeded.
    pub unready: &'a BTreeSet<String>,
    /// Ids of running containers whose startup probe has not succeeded.
    pub starting: &'a BTreeSet<String>,
    /// `containerd`, `cri-o`: the scheme of container ids.
    pub runtime_name: &'a str,
    pub node_ips: &'a [String],
    pub now: Timestamp,
    /// The pod is being stopped for good: its containers will not come back.
    pub ending: bool,
    /// The pod comes from a file of this node.
    pub is_static: bool,
    /// Why it has to end although the API did not ask for it.
    pub decision: Option<&'a StopDecision>,
}

/// The status as the API should show it.
pub fn compute(view: &View<'_>) -> PodStatus {
    let mut init = containers::statuses(view, containers::Group::Init);
    let mut regular = containers::statuses(view, containers::Group::Regular);
    let mut guests = containers::statuses(view, containers::Group::Ephemeral);
    containers::share_last_words([&mut init, &mut regular, &mut guests]);
    let phase = phase::sticky(view, phase::of(view, &init, &regular));
    let (reason, message) = match view.decision {
        Some(decision) => (Some(decision.reason.clone()), Some(decision.message.clone())),
        None => (view.previous.reason.clone(), view.previous.message.clone()),
    };
    // A pod that was refused has no containers to tell of.
    let condemned = view.decision.is_some_and(|decision| decision.disposition == Disposition::Fail);
    let refused = condemned && view.observed.is_empty();
    // What was said of a pod that goes on no longer holds; how it ended stays.
    let ended_so = phase.is_terminal() && view.previous.phase.as_deref() == Some(phase.as_str());
    let same_phase = view.decision.is_some() || ended_so;
    let ips = pod_ips(view);
    let sandbox_ready = view.observed.sandboxes.first().is_some_and(|sandbox| sandbox.ready);
    let conditions = conditions::compute(&conditions::Facts {
        spec: view.spec,
        phase,
        init: &init,
        regular: &regular,
        sandbox_ready: sandbox_ready && !ips.is_empty(),
        previous: view.previous.conditions.as_deref().unwrap_or_default(),
        disruption: view.decision.and_then(StopDecision::condition),
        now: view.now,
    });
    PodStatus {
        phase: Some(phase.as_str().to_owned()),
        reason: reason.filter(|_| same_phase),
        message: message.filter(|_| same_phase),
        conditions: Some(conditions),
        init_container_statuses: Some(init).filter(|list| !list.is_empty() && !refused),
        container_statuses: Some(regular).filter(|list| !list.is_empty() && !refused),
        ephemeral_container_statuses: Some(guests).filter(|list| !list.is_empty()),
        host_ip: view.node_ips.first().cloned(),
        host_ips: some_list(view.node_ips.iter().map(|ip| HostIP { ip: ip.clone() })),
        pod_ip: ips.first().cloned(),
        pod_ips: some_list(ips.into_iter().map(|ip| PodIP { ip })),
        qos_class: Some(resources::qos(view.spec).as_str().to_owned()),
        start_time: Some(view.previous.start_time.clone().unwrap_or_else(|| whole_seconds(view.now))),
        ..PodStatus::default()
    }
}

fn some_list<T>(items: impl Iterator<Item = T>) -> Option<Vec<T>> {
    Some(items.collect::<Vec<_>>()).filter(|list| !list.is_empty())
}

/// The sandbox's addresses; the node's for pods in its network; the last known ones once the sandbox is gone.
fn pod_ips(view: &View<'_>) -> Vec<String> {
    let sandbox = view.observed.sandboxes.first();
    let known = || view.previous.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    if view.ending && sandbox.is_none() {
        return known();
    }
    if view.spec.host_network == Some(true) {
        return if sandbox.is_some() { view.node_ips.to_vec() } else { Vec::new() };
    }
    match sandbox {
        Some(sandbox) if !sandbox.ips.is_empty() => sandbox.ips.clone(),
        Some(sandbox) if !sandbox.ready => known(),
        _ => Vec::new(),
    }
}

/// Kubernetes writes whole seconds.
pub fn whole_seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

#[cfg(test)]
#[path = "status/tests.rs"]
mod tests;
