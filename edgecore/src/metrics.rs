//! What EdgeCore counts, registered in one place: the link, the outbox, the brokers.

use daemon::metrics::{
    Collector, ConstCounter, ConstGauge, DescriptorEncoder, EncodeMetric, Family, Gauge, Label, Metrics,
};
use store::Store;

use devices::eventbus;
use metamanager::Outbox;
use metamanager::outbox::STREAMS;

/// The link, and what waits for it.
pub(crate) fn register_link(metrics: &Metrics, link: &edgehub::Metrics, store: Store, outbox: Outbox) {
    let (rows, bytes): (Family<Label, Gauge>, Family<Label, Gauge>) = Default::default();
    metrics.register(|registry| {
        link.register(registry);
        registry.register(
            "outbox_rows",
            "Messages that wait for the cloud's answer, by stream",
            rows.clone(),
        );
        registry.register("outbox_bytes", "Bytes of these messages, by stream", bytes.clone());
        registry.register_collector(Box::new(Losses(outbox)));
    });
    metrics.read_first(move || {
        let (store, rows, bytes) = (store.clone(), rows.clone(), bytes.clone());
        async move {
            match store.read(waiting).await {
                Ok(streams) => {
                    for (stream, (count, size)) in STREAMS.into_iter().zip(streams) {
                        rows.get_or_create(&[("stream", stream)]).set(count);
                        bytes.get_or_create(&[("stream", stream)]).set(size);
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        error = daemon::errors::describe(&error),
                        "the outbox could not be counted"
                    );
                }
            }
        }
    });
}

/// Rows and bytes of each of [`STREAMS`].
fn waiting(db: &store::rusqlite::Connection) -> store::rusqlite::Result<[(i64, i64); STREAMS.len()]> {
    let sql = "SELECT (SELECT count(*) FROM outbox WHERE stream = ?1), \
               coalesce((SELECT bytes FROM outbox_bytes WHERE stream = ?1), 0)";
    let mut statement = db.prepare_cached(sql)?;
    let mut streams = [(0, 0); STREAMS.len()];
    for (stream, found) in STREAMS.into_iter().zip(&mut streams) {
        *found = statement.query_row([stream], |row| Ok((row.get(0)?, row.get(1)?)))?;
    }
    Ok(streams)
}

/// The event bus and its brokers.
pub(crate) fn register_bus(metrics: &Metrics, bus: eventbus::Handle) {
    metrics.register(|registry| registry.register_collector(Box::new(Bus(bus))));
}

struct Losses(Outbox);

impl Collector for Losses {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        let help = "Reports and events dropped because the outbox was full";
        counter(&mut encoder, "outbox_dropped", help, self.0.dropped())
    }
}

struct Bus(eventbus::Handle);

impl Collector for Bus {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        let help = "MQTT messages lost by a limit, at the embedded broker or on the way to another";
        counter(&mut encoder, "eventbus_dropped", help, self.0.dropped())?;
        let Some(counts) = self.0.broker() else { return Ok(()) };
        let clients = ConstGauge::new(i64::try_from(counts.clients).unwrap_or(i64::MAX));
        let help = "Clients of the embedded broker";
        clients.encode(encoder.encode_descriptor("mqtt_clients", help, None, clients.metric_type())?)?;
        let sessions = ConstGauge::new(i64::try_from(counts.sessions).unwrap_or(i64::MAX));
        let help = "Sessions at the embedded broker, with their clients or without";
        sessions.encode(encoder.encode_descriptor("mqtt_sessions", help, None, sessions.metric_type())?)?;
        let bytes = ConstGauge::new(i64::try_from(counts.queued_bytes).unwrap_or(i64::MAX));
        let help = "Bytes of the messages the embedded broker keeps";
        bytes.encode(encoder.encode_descriptor("mqtt_queued_bytes", help, None, bytes.metric_type())?)?;
        let encoder = &mut encoder;
        let help = "Messages on topics that their clients may not publish on";
        counter(encoder, "mqtt_messages_refused", help, counts.refused_messages)?;
        let help = "Connections to the embedded broker that were refused";
        counter(encoder, "mqtt_clients_refused", help, counts.refused_clients)?;
        let help = "Subscriptions that the embedded broker refused";
        counter(encoder, "mqtt_subscriptions_refused", help, counts.refused_subscriptions)?;
        let help = "Messages that clients published at the embedded broker";
        counter(encoder, "mqtt_messages_received", help, counts.received)?;
        counter(
            encoder,
            "mqtt_messages_dropped",
            "Messages the embedded broker lost by a limit",
            counts.dropped,
        )
    }
}

fn counter(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> std::fmt::Result {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}

impl std::fmt::Debug for Losses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Losses")
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bus")
    }
}
