//! What the hub counts: sessions, who was turned away, what of the nodes' messages was lost.

use daemon::metrics::{Counter, Family, Gauge, Label, Registry};

/// Why a node's message was given up.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    /// The node may not send it.
    Unauthorised,
    Unreadable,
    /// The node has made more objects than any healthy one does.
    OverBudget,
    /// The API server refused it for good.
    Rejected,
    /// The API server refused CloudCore itself, for longer than is waited for.
    Refused,
}

impl Loss {
    fn as_str(self) -> &'static str {
        match self {
            Loss::Unauthorised => "unauthorised",
            Loss::Unreadable => "unreadable",
            Loss::OverBudget => "over_budget",
            Loss::Rejected => "rejected",
            Loss::Refused => "refused",
        }
    }
}

/// Why a connection was turned away.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refused {
    /// Told to come back later.
    Busy,
    NodeLimit,
    /// A handshake or greeting that was not accepted.
    Handshake,
}

impl Refused {
    fn as_str(self) -> &'static str {
        match self {
            Refused::Busy => "busy",
            Refused::NodeLimit => "node_limit",
            Refused::Handshake => "handshake",
        }
    }
}

/// How a session ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended {
    Closed,
    /// No sign of life in time.
    Silent,
    /// Told to: replaced, stopping, its node deleted.
    Told,
    /// The node broke the protocol.
    Protocol,
    /// The session itself failed (a panic), or was aborted.
    Failed,
}

impl Ended {
    fn as_str(self) -> &'static str {
        match self {
            Ended::Closed => "closed",
            Ended::Silent => "silent",
            Ended::Told => "told",
            Ended::Protocol => "protocol",
            Ended::Failed => "failed",
        }
    }
}

/// Counters of the hub. Clones share them.
#[derive(Clone, Default)]
pub struct Metrics {
    sessions: Gauge,
    started: Counter,
    ended: Family<Label, Counter>,
    refused: Family<Label, Counter>,
    /// Rows and requests of nodes that are being carried out.
    under_way: Gauge,
    retried: Counter,
    lost: Family<Label, Counter>,
    notices_dropped: Counter,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("cloudhub_sessions", "Nodes connected to this replica", self.sessions.clone());
        registry.register("cloudhub_sessions_started", "Sessions that began", self.started.clone());
        registry.register("cloudhub_sessions_ended", "Sessions that ended, by reason", self.ended.clone());
        registry.register(
            "cloudhub_connections_refused",
            "Connections that became no session, by reason",
            self.refused.clone(),
        );
        registry.register(
            "cloudhub_upstream_under_way",
            "Messages of nodes that are being carried out",
            self.under_way.clone(),
        );
        registry.register(
            "cloudhub_upstream_retries",
            "Attempts at messages of nodes that the API server could not take yet",
            self.retried.clone(),
        );
        registry.register(
            "cloudhub_upstream_lost",
            "Messages of nodes that were given up, by reason",
            self.lost.clone(),
        );
        registry.register(
            "cloudhub_notices_dropped",
            "Notices for nodes that read too slowly",
            self.notices_dropped.clone(),
        );
    }

    pub(super) fn began(&self) {
        self.sessions.inc();
        self.started.inc();
    }

    pub(super) fn ended(&self, reason: Ended) {
        self.sessions.dec();
        self.ended.get_or_create(&[("reason", reason.as_str())]).inc();
    }

    pub(super) fn refused(&self, reason: Refused) {
        self.refused.get_or_create(&[("reason", reason.as_str())]).inc();
    }

    pub fn lost(&self, reason: Loss) {
        self.lost.get_or_create(&[("reason", reason.as_str())]).inc();
    }

    pub fn retried(&self) {
        self.retried.inc();
    }

    /// Counts a message as under way until what is returned is dropped.
    pub fn carry(&self) -> UnderWay {
        self.under_way.inc();
        UnderWay { gauge: self.under_way.clone() }
    }

    pub(super) fn notices_dropped(&self, dropped: u64) {
        self.notices_dropped.inc_by(dropped);
    }
}

/// A message that is being carried out.
pub struct UnderWay {
    gauge: Gauge,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
