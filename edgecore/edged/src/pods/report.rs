//! Reporting: the status is computed, and submitted when it says something new.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use message::{Request, Upstream};

use tokio_util::task::AbortOnDropHandle;

use super::worker::{Worker, summary};
use podmodel::errors::chain;
use podmodel::observed::Observed;
use podmodel::status::phase::Phase;
use podmodel::status::{self, View, patch};

/// How long the first word of a pod waits for a better one.
const SOON: Duration = Duration::from_millis(500);
/// Before it is stored again, should the disk have refused it.
const AGAIN: Duration = Duration::from_secs(10);

impl Worker {
    /// Like [`Worker::report`], but what has changed soon need not be told: a pod that starts at once is told of once,
    /// and costs the link one message less.
    pub(super) async fn report_soon(&mut self, pod: &Pod, spec: &PodSpec, observed: &Observed) {
        self.report_in(Some(SOON), pod, spec, observed, false).await;
    }

    /// Computes the status and submits it if it differs from the last one.
    pub(super) async fn report(&mut self, pod: &Pod, spec: &PodSpec, observed: &Observed, ending: bool) {
        self.report_in(None, pod, spec, observed, ending).await;
    }

    async fn report_in(
        &mut self,
        wait: Option<Duration>,
        pod: &Pod,
        spec: &PodSpec,
        observed: &Observed,
        ending: bool,
    ) {
        let previous = self.previous(pod);
        let runtime_name = self.context.base.facts.borrow().name.clone();
        let health = self.probes.health();
        let decision = self.decision();
        let node_ips = self.context.addresses.all();
        let told_as = self.told_as();
        let status = status::compute(&View {
            pod,
            spec,
            observed,
            failures: &self.failures,
            previous: &previous,
            unready: &health.unready,
            starting: &health.starting,
            runtime_name: &runtime_name,
            node_ips: &node_ips,
            now: self.now(),
            ending,
            is_static: self.is_static,
            decision: decision.as_ref(),
        });
        if self.submitted && self.status.as_ref() == Some(&status) {
            return;
        }
        if Phase::read(status.phase.as_deref()).is_terminal() && self.record.status.is_none() {
            self.record.status = Some(status.clone());
            self.record.decision.clone_from(&decision);
            self.keep_record().await;
        }
        self.context.base.board.tell(&self.id.uid, Arc::new(status.clone()));
        self.submitted = match told_as {
            Some(uid) => self.submit(&uid, &status, wait).await,
            None => false,
        };
        self.status = Some(status);
    }

    /// The uid by which the API knows the pod; none if it does not know it.
    pub(super) fn told_as(&mut self) -> Option<String> {
        match self.is_static {
            true => self.mirror_to_tell(),
            false => Some(self.id.uid.clone()),
        }
    }

    /// The uid by which the API knows a pod from a file; none while it has no mirror. A new mirror has to be told.
    fn mirror_to_tell(&mut self) -> Option<String> {
        let mirror = self.context.mirrors.get(&self.id.namespace, &self.id.name)?;
        let theirs = mirror.status.as_deref().map(summary);
        let before = self.told_mirror.as_ref().filter(|(uid, _)| *uid == mirror.uid);
        let changed = before.is_none_or(|(_, seen)| *seen != theirs);
        if changed && (before.is_none() || self.status.as_ref().map(summary) != theirs) {
            self.submitted = false;
        }
        self.told_mirror = Some((mirror.uid.clone(), theirs));
        Some(mirror.uid)
    }

    /// True if the status is on disk, on its way to the cloud, or will be unless there is a newer one by then. The API
    /// knows a pod from a file by its mirror's uid.
    pub(super) async fn submit(&mut self, uid: &str, status: &PodStatus, wait: Option<Duration>) -> bool {
        let (namespace, name) = (self.id.namespace.clone(), self.id.name.clone());
        let patch = patch::text(uid, status);
        let request = Upstream::Ask(Request::PatchPodStatus { namespace, name, patch });
        self.soon = None;
        if let Some(wait) = wait {
            let (context, id) = (self.context.clone(), self.id.clone());
            self.soon = Some(AbortOnDropHandle::new(daemon::spawn(async move {
                tokio::time::sleep(wait).await;
                // Until it is stored, or a newer status takes its place.
                while let Err(error) = context.outbox.submit(request.clone()).await {
                    tracing::warn!(namespace = %id.namespace, name = %id.name, error = %chain(&error), "first pod status not stored");
                    tokio::time::sleep(AGAIN).await;
                }
            })));
            return true;
        }
        match self.context.outbox.submit(request).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(name = %self.id.name, error = %chain(&error), "pod status not stored");
                false
            }
        }
    }

    /// Remembers over restarts of EdgeCore that the pod is here, or how it ended.
    pub(super) async fn keep_record(&mut self) {
        match self.record.write(&self.context.base.objects).await {
            Ok(()) => self.recorded = true,
            Err(error) => {
                tracing::warn!(name = %self.id.name, error = %chain(&error), "record of a pod not stored");
            }
        }
    }
}
