//! What the hub counts: sessions, and what goes through them.

use daemon::metrics::{Counter, Family, Gauge, Label, Registry};

/// Counters of the link. Clones share them.
#[derive(Clone, Default)]
pub struct Metrics {
    connected: Gauge,
    started: Counter,
    /// Sessions after the first.
    reconnected: Counter,
    failed: Counter,
    messages: Family<Label, Counter>,
    bytes: Family<Label, Counter>,
}

const RECEIVED: Label = [("direction", "received")];
const SENT: Label = [("direction", "sent")];

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("edgehub_connected", "1 while there is a session", self.connected.clone());
        registry.register("edgehub_sessions_started", "Sessions that began", self.started.clone());
        registry.register("edgehub_reconnects", "Sessions after the first", self.reconnected.clone());
        registry.register("edgehub_connects_failed", "Attempts to connect that failed", self.failed.clone());
        registry.register(
            "edgehub_messages",
            "Messages of KubeEdge's dialect, or frames of the native one, by direction",
            self.messages.clone(),
        );
        registry.register(
            "edgehub_bytes",
            "Bytes of what these carry, before compression, by direction",
            self.bytes.clone(),
        );
    }

    pub(super) fn began(&self) {
        self.connected.set(1);
        if self.started.inc() > 0 {
            self.reconnected.inc();
        }
    }

    pub(super) fn ended(&self) {
        self.connected.set(0);
    }

    pub(super) fn failed(&self) {
        self.failed.inc();
    }

    pub(super) fn received(&self, bytes: usize) {
        self.count(&RECEIVED, bytes);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.count(&SENT, bytes);
    }

    fn count(&self, direction: &Label, bytes: usize) {
        self.messages.get_or_create(direction).inc();
        self.bytes.get_or_create(direction).inc_by(bytes as u64);
    }
}
