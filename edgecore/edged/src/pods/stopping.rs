//! Stopping a pod for good, and removing what is left of it (docs/protocol/edge-runtime.md 5.3, 5.9).

use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use message::{Json, Request, Upstream};
use serde_json::json;

use super::cgroups;
use super::record::Record;
use super::worker::{AFTER_ERROR, Next, Worker};
use nodebase::events::Kind;
use podmodel::errors::chain;
use podmodel::observed::{Instance, Observed, State};
use podmodel::plan::is_sidecar;
use podmodel::resources;
use podmodel::stop_decision::{Disposition, StopDecision};

/// What the runtime gives a container at least.
const LEAST_GRACE: Duration = Duration::from_secs(2);
const STILL_RUNNING: Duration = Duration::from_secs(1);
/// The runtime notices the end of a process soon after.
const AFTER_KILL: Duration = Duration::from_millis(500);
const CLASSES: [resources::Qos; 3] =
    [resources::Qos::Guaranteed, resources::Qos::Burstable, resources::Qos::BestEffort];

/// A step of the end of a pod.
#[derive(Debug, thiserror::Error)]
pub(super) enum StopError {
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
        // What the runtime does not let go yet does not run: the API need not wait for it.
        if !self.deletion_sent {
            let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": self.id.uid}});
            let options = Json::of(&options);
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
        if self.cleaned { Next::Idle } else { Next::In(AFTER_ERROR) }
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
            let root = &self.context.base.settings.root_dir;
            if let Err(error) = volumes::tear_down(&self.context.csi, root, &self.id.uid).await {
                return self.again(&StopError::Disk(error));
            }
            self.cleaned = true;
        }
        Next::Idle
    }

    /// The pod has to end, or to wait, for a reason the node has.
    pub(super) async fn enforce_stop(&mut self, pod: &Pod, spec: &PodSpec, decision: &StopDecision) -> Next {
        self.probes.stop();
        if !self.sentenced {
            tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, reason = %decision.reason,
                error = %decision.message, "pod is stopped by its node");
            let (reason, text) = (decision.reason.as_str(), decision.message.as_str());
            self.context.base.events.record(&self.id, None, Kind::Warning, reason, text);
            self.sentenced = true;
        }
        let observed = match self.end(spec, decision.grace.unwrap_or(self.grace)).await {
            Ok(observed) => observed,
            Err(error) => return self.again(&error),
        };
        let is_final = decision.disposition == Disposition::Fail;
        self.report(pod, spec, &observed, is_final).await;
        if is_final && !self.cleaned {
            let root = &self.context.base.settings.root_dir;
            if let Err(error) = volumes::tear_down(&self.context.csi, root, &self.id.uid).await {
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
        let observed = match Observed::read(&self.context.base.runtime, &self.id.uid).await {
            Ok(observed) => observed,
            Err(error) => return self.again(&StopError::Runtime(error)),
        };
        if observed.is_running()
            && let Err(error) = self.stop_all(&observed, grace).await
        {
            return self.again(&StopError::Runtime(error));
        }
        match self.clean(&observed, None).await {
            Ok(()) if !self.cleaned => Next::In(AFTER_ERROR),
            Ok(()) => {
                let logs = self.context.base.settings.pod_logs_dir.join(self.id.log_folder());
                let _ = tokio::fs::remove_dir_all(logs).await;
                super::housekeeping::remove_dead_links(&self.context).await;
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

    fn again(&mut self, error: &StopError) -> Next {
        let wait = if matches!(error, StopError::StillRunning) { STILL_RUNNING } else { AFTER_ERROR };
        let text = chain(error);
        if self.is_news(&text) {
            tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, error = text, "end of a pod is tried again");
        }
        Next::In(wait)
    }

    /// Stops what runs; sidecars after the rest. Returns what the runtime holds then.
    async fn end(&mut self, spec: &PodSpec, grace: Duration) -> Result<Observed, StopError> {
        let read = || Observed::read(&self.context.base.runtime, &self.id.uid);
        let observed = read().await.map_err(StopError::Runtime)?;
        if !observed.is_running() {
            return Ok(observed);
        }
        self.stop_in_order(spec, &observed, grace).await.map_err(StopError::Runtime)?;
        let after = read().await.map_err(StopError::Runtime)?;
        match after.is_running() {
            true => Err(StopError::StillRunning),
            false => Ok(after),
        }
    }

    /// Sidecars end after the containers they serve, the last one first, all within one grace.
    pub(super) async fn stop_in_order(
        &self,
        spec: &PodSpec,
        observed: &Observed,
        grace: Duration,
    ) -> Result<(), cri::CallError> {
        let sidecars: Vec<&str> = spec
            .init_containers
            .iter()
            .flatten()
            .filter(|init| is_sidecar(init))
            .map(|init| init.name.as_str())
            .collect();
        let began = tokio::time::Instant::now();
        let only = |keep: &dyn Fn(&str) -> bool| {
            let mut part = observed.clone();
            part.containers.retain(|run| keep(&run.name));
            part
        };
        self.stop_containers(&only(&|name| !sidecars.contains(&name)), grace).await?;
        for sidecar in sidecars.iter().rev() {
            let left = grace.saturating_sub(began.elapsed());
            self.stop_containers(&only(&|name| name == *sidecar), left).await?;
        }
        self.stop_sandboxes(observed).await
    }

    /// Stops one container with its preStop hook.
    pub(super) async fn stop_one(
        &self,
        run: &Instance,
        observed: &Observed,
        grace: Duration,
    ) -> Result<(), cri::CallError> {
        let began = tokio::time::Instant::now();
        if !grace.is_zero() {
            self.pre_stop(run, observed, grace).await;
        }
        let left = grace.saturating_sub(began.elapsed()).max(LEAST_GRACE);
        self.context.base.runtime.stop_container(&run.id, left).await
    }

    async fn stop_containers(&self, observed: &Observed, grace: Duration) -> Result<(), cri::CallError> {
        let running =
            observed.containers.iter().filter(|run| matches!(run.state, State::Running | State::Unknown));
        let stops = running.map(|run| async move {
            let text = format!("Stopping container {}", run.name);
            self.context.base.events.record(&self.id, Some(&run.name), Kind::Normal, "Killing", &text);
            self.stop_one(run, observed, grace).await
        });
        join_all(stops).await.into_iter().collect()
    }

    /// Stops all containers in parallel, then the sandboxes.
    async fn stop_all(&self, observed: &Observed, grace: Duration) -> Result<(), cri::CallError> {
        self.stop_containers(observed, grace).await?;
        self.stop_sandboxes(observed).await
    }

    async fn stop_sandboxes(&self, observed: &Observed) -> Result<(), cri::CallError> {
        for sandbox in &observed.sandboxes {
            self.context.base.runtime.stop_pod_sandbox(&sandbox.id).await?;
        }
        Ok(())
    }

    /// Removes containers, sandboxes, volumes, cgroup and tokens of a pod that does not run.
    async fn clean(&mut self, observed: &Observed, spec: Option<&PodSpec>) -> Result<(), StopError> {
        let refused = self.remove_from_runtime(observed, spec).await.err();
        let settings = &self.context.base.settings;
        volumes::tear_down(&self.context.csi, &settings.root_dir, &self.id.uid)
            .await
            .map_err(StopError::Disk)?;
        let driver = self.context.base.facts.borrow().driver;
        let own = spec.map(resources::qos);
        for qos in CLASSES.into_iter().filter(|qos| own.is_none_or(|own| own == *qos)) {
            let parent = resources::cgroup_parent(driver, &settings.cgroup_root, qos, &self.id.uid);
            let _ = daemon::blocking(move || {
                cgroups::remove(&parent);
                Ok(())
            })
            .await;
        }
        self.context.queries.forget_tokens(&self.id.uid).await.map_err(StopError::Tokens)?;
        Record::forget(&self.context.base.objects, &self.id.uid).await.map_err(StopError::Tokens)?;
        self.cleaned = refused.is_none();
        if let Some(error) = refused {
            tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, error = %chain(&error),
                "the runtime does not let go of what is left of a pod");
        }
        Ok(())
    }

    /// Removes the pod's containers and sandboxes. A runtime that was interrupted while it started a container may
    /// call it ended and refuse to remove it because its process lives: then the processes of the pod's cgroup are
    /// killed first, as nothing of the pod may run.
    async fn remove_from_runtime(
        &self,
        observed: &Observed,
        spec: Option<&PodSpec>,
    ) -> Result<(), cri::CallError> {
        if self.try_remove(observed).await.is_ok() {
            return Ok(());
        }
        let (driver, root) =
            (self.context.base.facts.borrow().driver, &self.context.base.settings.cgroup_root);
        let own = spec.map(resources::qos);
        for qos in CLASSES.into_iter().filter(|qos| own.is_none_or(|own| own == *qos)) {
            let parent = resources::cgroup_parent(driver, root, qos, &self.id.uid);
            let killed = daemon::blocking(move || Ok(cgroups::kill(&parent))).await.unwrap_or(0);
            if killed > 0 {
                tracing::warn!(name = %self.id.name, killed, "processes of an ended pod were still there");
            }
        }
        tokio::time::sleep(AFTER_KILL).await;
        self.try_remove(observed).await
    }

    async fn try_remove(&self, observed: &Observed) -> Result<(), cri::CallError> {
        let runtime = &self.context.base.runtime;
        for run in &observed.containers {
            self.remove_run(run).await?;
        }
        for sandbox in &observed.sandboxes {
            runtime.stop_pod_sandbox(&sandbox.id).await?;
            runtime.remove_pod_sandbox(&sandbox.id).await?;
        }
        Ok(())
    }
}
