//! What a program counts about itself, in the text form Prometheus reads. Rooms register their own counters, in one place
//! per program; labels have few values, and never the name of a node.

use std::sync::{Arc, Mutex, PoisonError};

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::registry::Registry;

/// The one label of a family: its name and a value out of few.
pub type Label = [(&'static str, &'static str); 1];

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of a program.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// `program` begins the name of every metric: `cloudcore_cloudhub_sessions`.
    pub fn new(program: &str) -> Metrics {
        Metrics { registry: Arc::new(Mutex::new(Registry::with_prefix(program))) }
    }

    /// Adds metrics of one room.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// All of them as text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing into a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_named_after_program_and_room() {
        let metrics = Metrics::new("cloudcore");
        let refused: Counter = Counter::default();
        metrics.register(|registry| {
            registry.register("cloudhub_connections_refused", "Connections refused", refused.clone());
        });
        refused.inc();
        assert!(metrics.render().contains("cloudcore_cloudhub_connections_refused_total 1\n"));
    }
}
