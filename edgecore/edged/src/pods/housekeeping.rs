//! Removing what nobody needs: old runs, dead sandboxes, folders and rows of gone pods.

use super::folders;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cgroups;
use super::context::Context;
use super::record::Record;
use super::worker::Worker;
use crate::logs::links;
use nodebase::owner::{self, Owner};
use podmodel::errors::chain;
use podmodel::observed::{Instance, Observed, State};

/// The newest run and the one before it (the last state) stay.
const RUNS_KEPT: usize = 2;

impl Worker {
    /// Removes older runs of the pod's containers, and sandboxes that were replaced and are empty.
    pub(super) async fn collect_garbage(&self, observed: &Observed) {
        let names: BTreeSet<&str> = observed.containers.iter().map(|run| run.name.as_str()).collect();
        let mut kept_in = BTreeSet::new();
        for name in names {
            for (index, run) in observed.runs(name).enumerate() {
                let kept = index < RUNS_KEPT || run.state == State::Running;
                // What could not be removed keeps its sandbox until the next look.
                if kept || self.remove_run(run).await.is_err() {
                    kept_in.insert(run.sandbox.as_str());
                    continue;
                }
                self.remove_logs(run, |_| true).await;
            }
        }
        for sandbox in observed.sandboxes.iter().skip(1).filter(|sandbox| !sandbox.ready) {
            if !kept_in.contains(sandbox.id.as_str()) {
                // A failure is tried again at the next look.
                let _ = self.context.base.runtime.stop_pod_sandbox(&sandbox.id).await;
                let _ = self.context.base.runtime.remove_pod_sandbox(&sandbox.id).await;
            }
        }
    }
}

impl Worker {
    /// Removes one run. A runtime that holds on to its process, although it calls the run ended, is made to let go.
    pub(super) async fn remove_run(&self, run: &Instance) -> Result<(), cri::CallError> {
        let runtime = &self.context.base.runtime;
        let Err(refusal) = runtime.remove_container(&run.id).await else { return Ok(()) };
        let has_ended = matches!(run.state, State::Created | State::Exited);
        if !refusal.is_refused() || !has_ended || runtime.drop_task(&run.id).await.is_err() {
            return Err(refusal);
        }
        tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, container = %run.name,
            "the runtime held on to a process of an ended container, it was ended");
        runtime.remove_container(&run.id).await
    }

    /// Removes the log of a run, with what was rotated of it, if `wanted` says so of the file being written.
    pub(super) async fn remove_logs(
        &self,
        run: &Instance,
        wanted: impl FnOnce(&Path) -> bool + Send + 'static,
    ) {
        let folder = self.context.base.settings.pod_logs_dir.join(self.id.log_folder()).join(&run.name);
        let log = format!("{}.log", run.attempt);
        let removed = daemon::blocking(move || {
            if !wanted(&folder.join(&log)) {
                return Ok(());
            }
            let rotated = format!("{log}.");
            let mut own =
                folders::names(&folder).into_iter().filter(|name| *name == log || name.starts_with(&rotated));
            own.try_for_each(|name| folders::remove(&folder.join(name)))
        });
        if let Err(error) = removed.await {
            tracing::warn!(container = %run.id, error = %error, "log of a removed container not removed");
        }
    }

    /// Links the logs of the pod's containers to where log collectors look for them.
    pub(super) async fn link_logs(&self, observed: &Observed) {
        let folder = self.context.base.settings.pod_logs_dir.join(self.id.log_folder());
        let logs = observed.containers.iter().filter(|run| Path::new(&run.log_path).starts_with(&folder));
        let logs: Vec<_> =
            logs.map(|run| (run.name.clone(), run.id.clone(), PathBuf::from(&run.log_path))).collect();
        let (id, pods) = (self.id.clone(), self.context.base.settings.pod_logs_dir.clone());
        let made = daemon::blocking(move || {
            logs.iter().try_for_each(|(name, run, log)| links::make(&pods, &id, name, run, log))
        });
        if let Err(error) = made.await {
            tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, error = %error, "logs not linked for collectors");
        }
    }
}

/// What this node keeps of pods beside the runtime, as it was found.
pub(super) struct PodLeftovers {
    /// Names below `pods`: uids.
    folders: Vec<String>,
    /// Names in the folder of logs: namespace, name and uid of a pod.
    logs: Vec<String>,
    /// Uids of rows: what was noted of pods, and their tokens.
    rows: BTreeSet<String>,
}

impl PodLeftovers {
    /// Of pods that have folders or logs.
    pub(super) fn uids(&self) -> impl Iterator<Item = &str> {
        let of_logs = self.logs.iter().filter_map(|name| name.rsplit('_').next());
        self.folders.iter().map(String::as_str).chain(of_logs)
    }
}

/// Looks at what is kept. It comes before it is asked which pods are known: what a pod makes that comes later is not in
/// it, and so not taken for a leftover.
pub(super) async fn look(context: &Context) -> PodLeftovers {
    let (pods, logs) =
        (context.base.settings.root_dir.join("pods"), context.base.settings.pod_logs_dir.clone());
    let seen = daemon::blocking(move || Ok((folders::names(&pods), folders::names(&logs)))).await;
    let (folders, logs) = or_none(seen);
    let records = or_none(Record::uids(&context.base.objects).await);
    let holders = or_none(context.queries.token_holders().await);
    PodLeftovers { folders, logs, rows: records.into_iter().chain(holders).collect() }
}

/// What cannot be read now is looked at next time.
fn or_none<T: Default, E: std::error::Error + 'static>(read: Result<T, E>) -> T {
    read.unwrap_or_else(|error| {
        tracing::warn!(error = %chain(&error), "what is kept of pods cannot be read");
        T::default()
    })
}

/// Removes what is kept of pods that no worker knows. Pods the runtime still holds get a worker.
pub(super) async fn remove_leftovers(context: Arc<Context>, found: PodLeftovers, known: BTreeSet<String>) {
    // Without an answer of the runtime, a pod that is not known here may still run.
    if !context.base.facts.borrow().ready {
        return;
    }
    let Ok(sandboxes) = context.base.runtime.list_pod_sandboxes(None).await else { return };
    let held = sandboxes.iter().filter_map(|sandbox| sandbox.labels.get(cri::labels::POD_UID).cloned());
    let mark = owner::mark(&context.base.settings);
    let ours = sandboxes.iter().filter(|sandbox| owner::of(&sandbox.labels, &mark) == Owner::Us);
    let ours = ours.filter_map(|sandbox| sandbox.labels.get(cri::labels::POD_UID).cloned());
    let ours: BTreeSet<String> =
        known.iter().cloned().chain(ours).chain(found.folders.iter().cloned()).collect();
    cgroups::notice_strangers(&context, &ours).await;
    let keep: BTreeSet<String> = known.into_iter().chain(held).collect();
    // A pod from a file has the same uid when it comes back: it may be here again by now.
    let stale = |uid: &str| {
        podmodel::spec::is_safe_uid(uid) && !keep.contains(uid) && context.base.board.get(uid).is_none()
    };
    for uid in found.folders.iter().filter(|uid| stale(uid)) {
        if let Err(error) = volumes::tear_down(&context.csi, &context.base.settings.root_dir, uid).await {
            tracing::warn!(uid, error = %chain(&error), "folder of a gone pod not removed");
        }
    }
    for name in found.logs.iter().filter(|name| name.split('_').count() == 3) {
        if !stale(name.rsplit('_').next().unwrap_or_default()) {
            continue;
        }
        if let Err(error) = tokio::fs::remove_dir_all(context.base.settings.pod_logs_dir.join(name)).await {
            tracing::warn!(error = %error, "logs of a gone pod not removed");
        }
    }
    remove_dead_links(&context).await;
    if let Err(error) = context.queries.forget_foreign_tokens(keep.iter().cloned().collect()).await {
        tracing::warn!(error = %chain(&error), "tokens of pods of an earlier KubeEdge not removed");
    }
    for uid in found.rows.iter().filter(|uid| stale(uid)) {
        let forgotten =
            tokio::try_join!(Record::forget(&context.base.objects, uid), context.queries.forget_tokens(uid));
        if let Err(error) = forgotten {
            tracing::warn!(uid, error = %chain(&error), "rows of a gone pod not removed");
        }
    }
}

pub(super) async fn remove_dead_links(context: &Context) {
    let pods = context.base.settings.pod_logs_dir.clone();
    let dead = daemon::blocking(move || Ok(links::dead(&pods))).await.unwrap_or_default();
    if dead.is_empty() {
        return;
    }
    let Ok(containers) = context.base.runtime.list_containers(None).await else { return };
    let known: BTreeSet<String> = containers.into_iter().map(|item| item.id).collect();
    if let Err(error) = daemon::blocking(move || links::remove(&dead, &known)).await {
        tracing::warn!(error = %error, "links to logs that are gone not removed");
    }
}
