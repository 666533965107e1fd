//! Cgroups of pods and of their classes (docs/protocol/edge-runtime.md 5.12): made with their limits before the runtime puts
//! containers below them, removed after the runtime has removed those.
//!
//! With the driver `cgroupfs` they are made here, in every hierarchy of v1 or in the one of v2. With `systemd` the
//! runtime makes the slices, and systemd is told their limits.

mod limits;
mod slices;
pub mod strangers;
mod tree;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use k8s_openapi::api::core::v1::PodSpec;

use super::context::Context;
pub use limits::Limits;
use nodebase::events::Kind;
use podmodel::cgroups::CgroupDriver;
use podmodel::demand::Demand;
use podmodel::errors::chain;
use podmodel::resources::{self, Qos};
use tree::Tree;

#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("making the cgroup {path}")]
    Make { path: PathBuf, source: std::io::Error },
    #[error("setting {path} to {value:?}")]
    Set { path: PathBuf, value: String, source: std::io::Error },
    #[error("telling systemd the limits of {slice}")]
    Systemd { slice: String, source: std::io::Error },
    #[error("systemd refused the limits of {slice}: {reason}")]
    Refused { slice: String, reason: String },
}

/// Before the sandbox: the pod's cgroup with what all its containers together may take.
pub async fn prepare(context: &Context, spec: &PodSpec, uid: &str) -> Result<(), CgroupError> {
    let settings = &context.base.settings;
    let driver = context.base.facts.borrow().driver;
    if !settings.cgroups.per_qos || driver == CgroupDriver::Systemd {
        return Ok(());
    }
    let parent = resources::cgroup_parent(driver, &settings.cgroup_root, resources::qos(spec), uid);
    let limits = Limits::of_pod(spec, settings);
    let tree = Tree::new(context.base.machine.has_cgroup2);
    run(move || tree.make(&parent, &limits)).await
}

/// After the sandbox: systemd knows the slice now, and is told its limits. What it refuses is told and lived with: the
/// containers have limits of their own.
pub async fn confirm(context: &Context, spec: &PodSpec, uid: &str) {
    let settings = &context.base.settings;
    let driver = context.base.facts.borrow().driver;
    if !settings.cgroups.per_qos || driver == CgroupDriver::Cgroupfs {
        return;
    }
    let slice = resources::cgroup_parent(driver, &settings.cgroup_root, resources::qos(spec), uid);
    if let Err(error) = slices::set(&slice, &Limits::of_pod(spec, settings)).await {
        tracing::warn!(uid, error = %chain(&error), "limits of a pod's slice not set");
    }
}

/// The classes share CPU by what their pods ask for, and all pods together stay within what is allocatable.
pub async fn classes(context: &Context, demands: &[Arc<Demand>]) -> Result<(), CgroupError> {
    let settings = &context.base.settings;
    let driver = context.base.facts.borrow().driver;
    if !settings.cgroups.per_qos {
        return Ok(());
    }
    let allocatable = context.capacity.allocatable(&context.base.machine, settings);
    let burstable = demands.iter().filter(|demand| demand.qos == Qos::Burstable);
    let shares = resources::shares(Some(burstable.map(|demand| demand.request("cpu")).sum()));
    let all = Limits::of_all(&allocatable, settings.cgroups.enforce_allocatable);
    let list = [
        (resources::class_parent(driver, &settings.cgroup_root, None), all),
        (
            resources::class_parent(driver, &settings.cgroup_root, Some(Qos::Burstable)),
            Limits { cpu_shares: Some(shares), ..Limits::default() },
        ),
        (
            resources::class_parent(driver, &settings.cgroup_root, Some(Qos::BestEffort)),
            Limits { cpu_shares: Some(resources::shares(None)), ..Limits::default() },
        ),
    ];
    if driver == CgroupDriver::Systemd {
        for (slice, limits) in &list {
            slices::set(slice, limits).await?;
        }
        return Ok(());
    }
    let tree = Tree::new(context.base.machine.has_cgroup2);
    run(move || list.iter().try_for_each(|(path, limits)| tree.make(path, limits))).await
}

/// Removes the pod's cgroup from every hierarchy. A cgroup that still has members stays, as the kernel wants.
pub fn remove(parent: &str) {
    tree::remove(parent);
}

/// Kills every process in the pod's cgroup and below it. Returns how many there were.
pub fn kill(parent: &str) -> usize {
    tree::kill(parent)
}

/// Says, once, that another node agent has pods in the cgroups that are ours. `known` are the uids of this one's pods. Their
/// limits and ours would be set against each other, and what is allocatable be given twice.
pub async fn notice_strangers(context: &Context, known: &BTreeSet<String>) {
    let settings = &context.base.settings;
    if !settings.cgroups.per_qos || context.cgroups_shared.load(Ordering::Relaxed) {
        return;
    }
    let (driver, root) = (context.base.facts.borrow().driver, settings.cgroup_root.clone());
    let Ok(running) = daemon::blocking(move || Ok(strangers::running(driver, &root))).await else { return };
    let Some(uid) = strangers::among(running, known).into_iter().next() else { return };
    context.cgroups_shared.store(true, Ordering::Relaxed);
    let (root, key) = (&settings.cgroup_root, "modules.edged.tailoredKubeletConfig.cgroupRoot");
    tracing::warn!(
        uid,
        path = %root,
        key,
        "another node agent (a kubelet, or KubeEdge's EdgeCore) runs pods in this one's cgroups: stop it, or give this one another root by its key"
    );
    let text = format!(
        "another node agent runs pods below the cgroup root {root:?}, among them {uid}: stop it, or set another {key}"
    );
    context.base.events.record_node(Kind::Warning, "CgroupRootShared", &text);
}

async fn run(work: impl FnOnce() -> Result<(), CgroupError> + Send + 'static) -> Result<(), CgroupError> {
    let lost = |source| CgroupError::Make { path: PathBuf::from(tree::ROOT), source };
    daemon::blocking(move || Ok(work())).await.map_err(lost)?
}
