//! What is counted of the way to the API server.

use daemon::metrics::{Counter, Family, Label, Registry};
use message::Status;

/// Counters of one connection to a cluster.
#[derive(Clone, Default)]
pub struct Metrics {
    requests: Family<[(&'static str, &'static str); 2], Counter>,
    interruptions: Family<Label, Counter>,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "kubernetes_requests",
            "Requests to the API server by verb and outcome",
            self.requests.clone(),
        );
        registry.register(
            "kubernetes_watch_interruptions",
            "Watches that broke and were begun again",
            self.interruptions.clone(),
        );
    }

    pub(super) fn request<T>(&self, verb: &'static str, result: &Result<T, Status>) {
        let outcome = match result {
            Ok(_) => "ok",
            // No answer within the deadline, or no way to the API server.
            Err(status) if status.code == 504 => "timeout",
            Err(status) if status.code >= 500 => "failed",
            Err(_) => "refused",
        };
        self.requests.get_or_create(&[("verb", verb), ("outcome", outcome)]).inc();
    }

    pub(super) fn interrupted(&self, resource: &'static str) {
        self.interruptions.get_or_create(&[("resource", resource)]).inc();
    }
}
