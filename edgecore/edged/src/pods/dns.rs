//! What a worker has to do with its pod's DNS.

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::resolv::complaints;
use super::worker::Worker;
use nodebase::events::Kind;

impl Worker {
    pub(super) async fn resolv(&self) -> String {
        self.context.name_servers.read(&self.context.base.settings).await
    }

    /// Tells what is wrong with the DNS of a pod that is being made.
    pub(super) fn tell_of_dns(&self, pod: &Pod, spec: &PodSpec, resolv: &str) {
        for (reason, text) in complaints(pod, spec, &self.context.base.settings, resolv) {
            let events = &self.context.base.events;
            if reason == "MissingClusterDNS" {
                events.record_node(Kind::Warning, reason, &text);
            }
            let text = format!(
                "pod: {:?}. {text}",
                format!("{}_{}({})", self.id.name, self.id.namespace, self.id.uid)
            );
            events.record(&self.id, None, Kind::Warning, reason, &text);
        }
    }
}
