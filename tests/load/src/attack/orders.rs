//! What an attacker is told to do, and what it counts.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use clap::{Args, ValueEnum};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Nobody is attacked, but the machine has as much to do.
    Neighbour,
    /// TCP connections that say nothing, or begin a TLS handshake and stop.
    HalfOpen,
    /// TLS with a node's certificate, then an upgrade request that dribbles.
    SlowUpgrade,
    /// Lengths that lie, gigabytes, endless fragments, the largest messages.
    Lengths,
    /// Nested JSON.
    Deep,
    /// Frames that unpack to more than they say, or to as much as is allowed.
    Unpack,
    /// The registration port: slow and oversized bodies, signing requests of noise.
    Registration,
    /// The registration port: renewals for other nodes, with tokens nobody signed, and without end.
    Renewals,
    /// A node that makes objects in the API as fast as they are taken.
    Makes,
    /// The port for QUIC: frames that say too much or do not end, and noise.
    Quic,
    /// The edge's MQTT broker: messages for sessions that are kept without their clients.
    BrokerFlood,
    /// The edge's MQTT broker.
    Mqtt,
    /// The edge's socket for device mappers: clients that leave without a word, or stay without one.
    SilentMappers,
    /// The edge's socket for device mappers.
    Mappers,
    /// A cloud that throws every bomb at the edge that dials it.
    HostileCloud,
}

#[derive(Args, Clone)]
pub(crate) struct Flags {
    pub kind: Kind,
    /// `host:port`, or the path of a socket.
    #[arg(long)]
    pub target: String,
    /// One folder per node (`<node>/ca.crt`, `edge.crt`, `edge.key`).
    #[arg(long)]
    pub folder: PathBuf,
    /// Nodes whose certificates the attacker has.
    #[arg(long, default_value_t = 10)]
    pub nodes: usize,
    /// Connections at once.
    #[arg(long)]
    pub connections: usize,
}

/// What an attacker did.
#[derive(Default)]
pub(crate) struct Counts {
    pub opened: AtomicU64,
    /// Ended by the attacked, one way or another.
    pub ended: AtomicU64,
}

/// Between two connections of one attacking task.
pub(crate) const AGAIN: Duration = Duration::from_millis(200);
pub(crate) fn node_name(number: usize) -> String {
    format!("evil-{number}")
}
