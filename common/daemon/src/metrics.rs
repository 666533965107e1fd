//! What a program counts about itself, in the text form Prometheus reads. Rooms register their own counters, in one place
//! per program; labels have few values, and never the name of a node.

use std::fmt::Write;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use prometheus_client::collector::Collector;
pub use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
pub use prometheus_client::metrics::counter::{ConstCounter, Counter};
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
pub use prometheus_client::metrics::histogram::Histogram;
pub use prometheus_client::registry::Registry;

/// The one label of a family: its name and a value out of few.
pub type Label = [(&'static str, &'static str); 1];

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Content type of [`Metrics::render_plain`].
pub const PLAIN_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How long a value that is read for an answer may take; after that the answer has the one before.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// Reads values that cost a query, and puts them where the registry finds them.
type Reading = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// All metrics of a program.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    readings: Arc<Mutex<Vec<Reading>>>,
}

impl Metrics {
    /// `program` begins the name of every metric: `cloudcore_cloudhub_sessions`.
    pub fn new(program: &str) -> Metrics {
        Metrics { registry: Arc::new(Mutex::new(Registry::with_prefix(program))), readings: Arc::default() }
    }

    /// Adds metrics of one room.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Has something read before each answer, for at most two seconds.
    pub fn read_first<F>(&self, reading: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let reading: Reading = Arc::new(move || Box::pin(reading()));
        self.readings.lock().unwrap_or_else(PoisonError::into_inner).push(reading);
    }

    /// Reads what [`Metrics::read_first`] was given; for an answer that is about to be made.
    pub async fn read(&self) {
        let readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for reading in readings {
            if tokio::time::timeout(READ_WITHIN, reading()).await.is_err() {
                tracing::warn!("a value of the metrics could not be read in time");
            }
        }
    }

    /// All of them in the form of OpenMetrics.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing into a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }

    /// All of them in Prometheus' older form (0.0.4), to stand among others.
    pub fn render_plain(&self) -> String {
        plain(&self.render())
    }
}

/// In the older form a counter is named as its samples are, and nothing marks the end.
fn plain(text: &str) -> String {
    let counters: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut plain = String::with_capacity(text.len());
    for line in text.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        let of_counter = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(&name) => {
                Some((what, name, rest))
            }
            _ => None,
        };
        // Writing into a string does not fail.
        let _ = match of_counter {
            Some((what, name, rest)) => writeln!(plain, "# {what} {name}_total {rest}"),
            None => writeln!(plain, "{line}"),
        };
    }
    plain
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

    #[test]
    fn the_older_form_names_counters_as_their_samples() {
        let metrics = Metrics::new("edgecore");
        let (dropped, waiting): (Counter, Gauge) = Default::default();
        metrics.register(|registry| {
            registry.register("dropped", "Lost", dropped.clone());
            registry.register("waiting", "Rows", waiting.clone());
        });
        assert_eq!(
            metrics.render_plain(),
            "# HELP edgecore_dropped_total Lost.\n# TYPE edgecore_dropped_total counter\nedgecore_dropped_total 0\n\
             # HELP edgecore_waiting Rows.\n# TYPE edgecore_waiting gauge\nedgecore_waiting 0\n"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_costs_a_query_is_read_for_each_answer_and_holds_up_none() {
        let (metrics, waiting) = (Metrics::new("x"), Gauge::<i64>::default());
        metrics.register(|registry| registry.register("rows", "Rows", waiting.clone()));
        metrics.read_first(move || {
            waiting.inc();
            std::future::ready(())
        });
        metrics.read_first(std::future::pending);
        metrics.read().await;
        metrics.read().await;
        assert!(metrics.render().contains("x_rows 2\n"));
    }
}
