//! Pods the runtime says nothing of: what was told of them last is not true for ever.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::worker::{AFTER_ERROR, Next, Worker};
use podmodel::errors::chain;
use podmodel::status::phase::Phase;
use podmodel::status::whole_seconds;

/// How long a runtime may be silent before its pods no longer count as ready.
const PATIENCE: Duration = Duration::from_secs(30);
const REASON: &str = "ContainerRuntimeUnavailable";

impl Worker {
    /// The runtime could not be asked about the pod.
    pub(super) async fn runtime_trouble(&mut self, pod: &Pod, error: &cri::CallError) -> Next {
        let (now, text) = (self.now(), chain(error));
        let since = *self.unread_since.get_or_insert(now);
        tracing::debug!(name = %self.id.name, error = text, "runtime cannot be read");
        if now.duration_since(since) >= PATIENCE.try_into().unwrap_or_default() {
            self.disclaim(pod, &text).await;
        }
        Next::In(AFTER_ERROR)
    }

    /// Tells, once, that it is not known whether the containers still run.
    async fn disclaim(&mut self, pod: &Pod, error: &str) {
        let before = self.previous(pod);
        let runs = Phase::read(before.phase.as_deref()) == Phase::Running;
        let Some(uid) = self.told_as().filter(|_| runs) else { return };
        let status = unknown(before, error, self.now());
        let is_known = self.status.as_ref().is_some_and(says_unknown);
        if is_known && self.submitted {
            return;
        }
        if !is_known {
            tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, error,
                "the runtime does not tell of a pod, it counts as not ready");
        }
        self.context.base.board.tell(&self.id.uid, Arc::new(status.clone()));
        self.submitted = self.submit(&uid, &status, None).await;
        self.status = Some(status);
    }
}

fn says_unknown(status: &PodStatus) -> bool {
    status.conditions.iter().flatten().any(|condition| condition.reason.as_deref() == Some(REASON))
}

fn unknown(mut status: PodStatus, error: &str, now: jiff::Timestamp) -> PodStatus {
    let groups = [&mut status.container_statuses, &mut status.init_container_statuses];
    let containers = groups.into_iter().flatten().flatten();
    let running = containers.filter(|told| told.state.as_ref().is_some_and(|state| state.running.is_some()));
    running.for_each(|told| told.ready = false);
    let ours = ["Ready", "ContainersReady"];
    let conditions = status.conditions.iter_mut().flatten();
    for condition in conditions.filter(|condition| ours.contains(&condition.type_.as_str())) {
        if condition.status != "Unknown" {
            condition.last_transition_time = Some(whole_seconds(now));
        }
        condition.status = "Unknown".to_owned();
        condition.reason = Some(REASON.to_owned());
        condition.message = Some(format!("the container runtime cannot be asked: {error}"));
    }
    status
}
