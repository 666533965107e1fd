//! Removing what nobody needs: old runs, dead sandboxes, folders of gone pods.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::observed::{Observed, State};
use super::worker::Worker;
use crate::edged::context::Context;
use crate::edged::volumes::{self, mounts};

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
                if kept || self.context.runtime.remove_container(&run.id).await.is_err() {
                    kept_in.insert(run.sandbox.as_str());
                }
            }
        }
        for sandbox in observed.sandboxes.iter().skip(1).filter(|sandbox| !sandbox.ready) {
            if !kept_in.contains(sandbox.id.as_str()) {
                // A failure is tried again at the next look.
                let _ = self.context.runtime.stop_pod_sandbox(&sandbox.id).await;
                let _ = self.context.runtime.remove_pod_sandbox(&sandbox.id).await;
            }
        }
    }
}

/// The highest `<n>.log` in a container's log folder: how often it had been restarted.
pub fn highest_log(folder: &Path) -> Option<u32> {
    let entries = std::fs::read_dir(folder).ok()?;
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log")?.parse::<u32>().ok());
    numbers.max()
}

/// Removes folders of pods that no worker knows. Pods the runtime still holds have a worker.
pub async fn remove_leftovers(context: Arc<Context>, known: BTreeSet<String>) {
    // Without an answer of the runtime, a pod that is not known here may still run.
    if !context.facts.borrow().ready {
        return;
    }
    let Ok(sandboxes) = context.runtime.list_pod_sandboxes(None).await else { return };
    let held = sandboxes.iter().filter_map(|sandbox| sandbox.labels.get(cri::labels::POD_UID).cloned());
    let keep: BTreeSet<String> = known.into_iter().chain(held).collect();
    let (pods, logs) = (context.settings.root_dir.join("pods"), context.settings.pod_logs_dir.clone());
    let removed = volumes::blocking(move || {
        let stale =
            |name: &str, uid: &str| super::spec::is_safe_uid(uid) && !keep.contains(uid) && !name.is_empty();
        for name in names(&pods).iter().filter(|name| stale(name, name)) {
            mounts::unmount_and_remove(&pods.join(name))?;
        }
        for name in names(&logs) {
            let uid = name.rsplit('_').next().unwrap_or_default();
            if name.split('_').count() == 3 && stale(&name, uid) {
                std::fs::remove_dir_all(logs.join(&name))?;
            }
        }
        Ok(())
    });
    if let Err(error) = removed.await {
        tracing::warn!(error = %error, "folders of a gone pod not removed");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
