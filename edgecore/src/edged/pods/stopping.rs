//! Stopping a pod for good, and removing what is left of it (spec/edge-runtime.md 5.3, 5.9).

use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use message::{Json, Request, Upstream};
use serde_json::json;

use super::observed::{Observed, State};
use super::plan::is_sidecar;
use super::worker::{AFTER_ERROR, Next, Worker};
use super::{cgroups, resources};
use crate::edged::context::chain;
use crate::edged::events::Kind;
use crate::edged::volumes;

/// What the runtime gives a container at least.
const LEAST_GRACE: Duration = Duration::from_secs(2);
const STILL_RUNNING: Duration = Duration::from_secs(1);

/// A step of the end of a pod.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    #[error("stopping the pod")]
    Runtime(#[source] cri::CallError),
    #[error("something of the pod still runs")]
    StillRunning,
    #[error("removing the pod's folders")]
    Disk(#[source] std::io::Error),
    #[error("forgetting the pod's tokens")]
    Tokens(#[source] store::StoreError),
}

impl Worker {
    /// The API asked for the pod's end.
    pub(super) async fn terminate(&mut self, pod: &Pod, spec: &PodSpec) -> Next {
        self.probes.stop();
        let grace = self.remaining();
        let observed = match self.end(spec, grace).await {
            Ok(observed) => observed,
            Err(error) => return self.again(&error),
        };
        // After a restart of EdgeCore there may be nothing left to look at; then what was said before stands.
        if !observed.is_empty() || (self.status.is_some() && !self.submitted) {
            self.report(pod, spec, &observed, true).await;
        }
        if !self.cleaned
            && let Err(error) = self.clean(&observed, Some(spec)).await
        {
            return self.again(&error);
        }
        if !self.deletion_sent {
            let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": self.id.uid}});
            let Ok(options) = Json::encode(&options) else { return Next::Idle };
            let (namespace, name) = (self.id.namespace.clone(), self.id.name.clone());
            let request = Upstream::Ask(Request::DeletePod { namespace, name, options });
            match self.context.outbox.submit(request).await {
                Ok(()) => self.deletion_sent = true,
                Err(error) => {
                    tracing::warn!(name = %self.id.name, error = %chain(&error), "deletion not stored");
                    return Next::In(AFTER_ERROR);
                }
            }
        }
        Next::Idle
    }

    /// The pod has succeeded or failed: it stops using the node, but its containers stay for their logs.
    pub(super) async fn finish(&mut self, pod: &Pod, spec: &PodSpec) -> Next {
        self.probes.stop();
        let observed = match self.end(spec, self.grace).await {
            Ok(observed) => observed,
            Err(error) => return self.again(&error),
        };
        self.report(pod, spec, &observed, false).await;
        if !self.cleaned {
            let root = &self.context.settings.root_dir;
            if let Err(error) = volumes::tear_down(root, &self.id.uid).await {
                return self.again(&StopError::Disk(error));
            }
            self.cleaned = true;
        }
        Next::Idle
    }

    /// The store does not have the pod: nothing of it stays.
    pub(super) async fn remove(&mut self) -> Next {
        self.probes.stop();
        let grace = self.remaining();
        let observed = match Observed::read(&self.context.runtime, &self.id.uid).await {
            Ok(observed) => observed,
            Err(error) => return self.again(&StopError::Runtime(error)),
        };
        if observed.is_running()
            && let Err(error) = self.stop_all(&observed, grace).await
        {
            return self.again(&StopError::Runtime(error));
        }
        match self.clean(&observed, None).await {
            Ok(()) => {
                let logs = self.context.settings.pod_logs_dir.join(self.id.log_folder());
                let _ = tokio::fs::remove_dir_all(logs).await;
                Next::Done
            }
            Err(error) => self.again(&error),
        }
    }

    /// What is left of the grace; it counts from the first call, and a shorter grace counts.
    fn remaining(&mut self) -> Duration {
        let now = self.now();
        let wanted = now + self.grace;
        let deadline = self.deadline.map_or(wanted, |known| known.min(wanted));
        self.deadline = Some(deadline);
        Duration::try_from(deadline.duration_since(now)).unwrap_or_default()
    }

    fn again(&self, error: &StopError) -> Next {
        let wait = if matches!(error, StopError::StillRunning) { STILL_RUNNING } else { AFTER_ERROR };
        tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, error = %chain(error), "end of a pod is tried again");
        Next::In(wait)
    }

    /// Stops what runs; sidecars after the rest. Returns what the runtime holds then.
    async fn end(&mut self, spec: &PodSpec, grace: Duration) -> Result<Observed, StopError> {
        let read = || Observed::read(&self.context.runtime, &self.id.uid);
        let observed = read().await.map_err(StopError::Runtime)?;
        if !observed.is_running() {
            return Ok(observed);
        }
        let sidecars: Vec<&str> = spec
            .init_containers
            .iter()
            .flatten()
            .filter(|init| is_sidecar(init))
            .map(|init| init.name.as_str())
            .collect();
        if !sidecars.is_empty() {
            let mut first = observed.clone();
            first.containers.retain(|run| !sidecars.contains(&run.name.as_str()));
            self.stop_containers(&first, grace).await.map_err(StopError::Runtime)?;
        }
        self.stop_all(&observed, grace).await.map_err(StopError::Runtime)?;
        let after = read().await.map_err(StopError::Runtime)?;
        match after.is_running() {
            true => Err(StopError::StillRunning),
            false => Ok(after),
        }
    }

    async fn stop_containers(&self, observed: &Observed, grace: Duration) -> Result<(), cri::CallError> {
        let running =
            observed.containers.iter().filter(|run| matches!(run.state, State::Running | State::Unknown));
        let stops = running.map(|run| async move {
            let text = format!("Stopping container {}", run.name);
            self.context.events.record(&self.id, Some(&run.name), Kind::Normal, "Killing", &text).await;
            let began = tokio::time::Instant::now();
            self.pre_stop(run, observed, grace).await;
            let left = grace.saturating_sub(began.elapsed()).max(LEAST_GRACE);
            self.context.runtime.stop_container(&run.id, left).await
        });
        join_all(stops).await.into_iter().collect()
    }

    /// Stops all containers in parallel, then the sandboxes.
    pub(super) async fn stop_all(&self, observed: &Observed, grace: Duration) -> Result<(), cri::CallError> {
        self.stop_containers(observed, grace).await?;
        for sandbox in &observed.sandboxes {
            self.context.runtime.stop_pod_sandbox(&sandbox.id).await?;
        }
        Ok(())
    }

    /// Removes containers, sandboxes, volumes, cgroup and tokens of a pod that does not run.
    async fn clean(&mut self, observed: &Observed, spec: Option<&PodSpec>) -> Result<(), StopError> {
        let runtime = &self.context.runtime;
        for run in &observed.containers {
            runtime.remove_container(&run.id).await.map_err(StopError::Runtime)?;
        }
        for sandbox in &observed.sandboxes {
            runtime.stop_pod_sandbox(&sandbox.id).await.map_err(StopError::Runtime)?;
            runtime.remove_pod_sandbox(&sandbox.id).await.map_err(StopError::Runtime)?;
        }
        let settings = &self.context.settings;
        volumes::tear_down(&settings.root_dir, &self.id.uid).await.map_err(StopError::Disk)?;
        let classes = [resources::Qos::Guaranteed, resources::Qos::Burstable, resources::Qos::BestEffort];
        let driver = self.context.facts.borrow().driver;
        let own = spec.map(resources::qos);
        for qos in classes.into_iter().filter(|qos| own.is_none_or(|own| own == *qos)) {
            let parent = resources::cgroup_parent(driver, &settings.cgroup_root, qos, &self.id.uid);
            let _ = volumes::blocking(move || {
                cgroups::remove(&parent);
                Ok(())
            })
            .await;
        }
        self.context.queries.forget_tokens(&self.id.uid).await.map_err(StopError::Tokens)?;
        self.cleaned = true;
        Ok(())
    }
}
