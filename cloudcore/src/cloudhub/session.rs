//! One connected node: its desired set goes down and is acknowledged, its messages come up and are answered.
//!
//! One task owns the connection and everything of it: the write under way, the requests under way, the next frame.
//! None of them waits for another, and no session waits for another node.

mod kubeedge;
pub mod leftover;
mod native;
mod pump;
mod silence;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use link::{CloseReason, Link, ReceiveError, SendError};
use message::{Message, ObjectKey};
use tokio::time::Instant;

use super::exchange::Violation;
use super::metrics::{Ended, Loss, Metrics};
use super::rate_accounts::{Charge, RateAccounts};
use super::upstreams::Upstreams;
use super::volumes::Volumes;
use super::{Registry, SessionHandle};
use crate::desired::{NodeSet, Records, Sources};
use crate::dynamiccontroller::Requests;
use crate::kubernetes::Cluster;

/// The rooms a session works with.
#[derive(Clone)]
pub struct Rooms {
    pub cluster: Cluster,
    pub sources: Sources,
    pub records: Arc<dyn Records>,
    pub volumes: Volumes,
    pub upstreams: Arc<dyn Upstreams>,
    /// Where streams lead that edges open; `None`: they open none.
    pub requests: Option<Requests>,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("no sign of life within {0:?}")]
    Silent(Duration),
    #[error("a newer connection took over, its node was put out, or the server is stopping")]
    Told,
    #[error("the node object was deleted")]
    NodeDeleted,
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error("streams")]
    Streams(#[from] streams::Violation),
}

impl End {
    /// What it says about the node.
    pub(super) fn charge(&self) -> Option<Charge> {
        match self {
            End::Receive(ReceiveError::TooLarge { limit }) => Some(Charge::SentTooMuch(*limit)),
            End::Receive(ReceiveError::OverBudget) => Some(Charge::SentTooMuch(0)),
            end if end.is_nodes_fault() => Some(Charge::BrokeProtocol),
            _ => None,
        }
    }

    pub(super) fn reason(&self) -> Ended {
        match self {
            End::Silent(_) => Ended::Silent,
            End::Told | End::NodeDeleted => Ended::Told,
            end if end.is_nodes_fault() => Ended::Protocol,
            _ => Ended::Closed,
        }
    }

    /// True if the node broke the protocol.
    pub(super) fn is_nodes_fault(&self) -> bool {
        match self {
            End::Receive(error) => error.is_peers_fault(),
            End::Violation(_) | End::Streams(_) => true,
            _ => false,
        }
    }
}

pub(super) struct Session {
    pub handle: SessionHandle,
    pub keepalive: Duration,
    pub rooms: Arc<Rooms>,
    pub registry: Registry,
    pub rate_accounts: RateAccounts,
    pub metrics: Metrics,
}

/// Live requests of one node under way.
const CALLS: usize = 32;
/// Bytes of a node's messages under way at which it is read no further. An edge of ours has at most half of it in rows
/// that wait for their answer, so that its heartbeats and live requests are read while the API server is away.
const HOLD: usize = 512 * 1024;
/// Pause after the node could not store something (a full disk).
const REFUSED_PAUSE: Duration = Duration::from_secs(2);

impl Session {
    /// Runs until the connection or its node ends.
    pub(super) fn run(self, link: Link) -> BoxFuture<'static, End> {
        // Boxed: one that is moved into a future would be there twice.
        let session = Box::new(self);
        match link {
            Link::KubeEdge(sender, receiver) => Box::pin(kubeedge::run(session, sender, receiver)),
            Link::Native(sender, receiver) => Box::pin(native::run(session, sender, receiver)),
        }
    }

    /// Fills the set and keeps it filled.
    fn subscribe(&self, set: &NodeSet) {
        let node = self.handle.node.as_str();
        self.rooms.sources.subscribe(node, self.handle.epoch, set);
    }

    /// Asks for what is to be sent and is not in memory.
    fn want(&self, away: &[ObjectKey]) {
        let node = self.handle.node.as_str();
        away.iter().for_each(|key| self.rooms.sources.want(node, key));
    }

    fn unsubscribe(&self) {
        let node = self.handle.node.as_str();
        self.rooms.sources.unsubscribe(node, self.handle.epoch);
    }

    /// A message that nobody can read is dropped.
    fn note_unreadable(&self, message: &Message, error: &str) {
        let resource = message.route.resource.chars().take(128).collect::<String>();
        let (node, msg_id) = (&self.handle.node, &message.header.msg_id);
        tracing::warn!(%node, %msg_id, resource, error, "unreadable message dropped");
        self.metrics.lost(Loss::Unreadable);
    }

    /// Until when the node is read no further, after a message of `bytes`.
    fn note_sent(&self, bytes: usize) -> Option<Instant> {
        if bytes == 0 {
            return None;
        }
        self.rate_accounts.note(&self.handle.node, Charge::Sent(bytes), Instant::now())
    }

    fn close_reason(&self, end: &End) -> CloseReason {
        match end {
            End::Receive(ReceiveError::TooLarge { .. }) => CloseReason::TooLarge,
            End::Receive(ReceiveError::NotAMessage(_) | ReceiveError::NotAFrame(_))
            | End::Violation(_)
            | End::Streams(_) => CloseReason::NotAMessage,
            End::Receive(ReceiveError::OverBudget) => CloseReason::Busy(REFUSED_PAUSE),
            End::NodeDeleted => CloseReason::NodeDeleted,
            End::Told if let Some(why) = self.handle.put_out.get() => CloseReason::PutOut(why.clone()),
            End::Told if self.registry.is_current(&self.handle) => CloseReason::Stopping,
            End::Told => CloseReason::Replaced,
            _ => CloseReason::Done,
        }
    }
}
