//! Reporting: the status is computed, and submitted when it says something new.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use message::{Request, Upstream};

use super::observed::Observed;
use super::worker::Worker;
use crate::edged::context::chain;
use crate::edged::status::{self, View, patch};

impl Worker {
    /// Computes the status and submits it if it differs from the last one.
    pub(super) async fn report(&mut self, pod: &Pod, spec: &PodSpec, observed: &Observed, ending: bool) {
        let previous = self.previous(pod);
        let runtime_name = self.context.facts.borrow().name.clone();
        let health = self.probes.health();
        let status = status::compute(&View {
            pod,
            spec,
            observed,
            failures: &self.failures,
            previous: &previous,
            unready: &health.unready,
            starting: &health.starting,
            runtime_name: &runtime_name,
            node_ips: &self.context.machine.node_ips,
            now: self.now(),
            ending,
        });
        if self.submitted && self.status.as_ref() == Some(&status) {
            return;
        }
        let patch = patch::text(&self.id.uid, &status);
        let (namespace, name) = (self.id.namespace.clone(), self.id.name.clone());
        let request = Upstream::Ask(Request::PatchPodStatus { namespace, name, patch });
        self.submitted = match self.context.outbox.submit(request).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(name = %self.id.name, error = %chain(&error), "pod status not stored");
                false
            }
        };
        self.status = Some(status);
    }
}
