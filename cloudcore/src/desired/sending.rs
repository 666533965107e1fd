//! What is wanted of a node, what is sent to it, and what it acknowledged.

use std::time::Duration;

use message::{Downstream, Json, ObjectKey, ResourceVersion};

use super::Text;

/// An object as a controller wants it on a node.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub key: ObjectKey,
    pub uid: String,
    pub version: ResourceVersion,
    /// Hash of what the node reacts to ([`native::mark`]).
    pub mark: u64,
    pub object: Text,
}

impl PartialEq for Wanted {
    fn eq(&self, other: &Wanted) -> bool {
        self.key == other.key && self.uid == other.uid && self.version == other.version
    }
}

/// What the node acknowledged about one uid.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    pub key: ObjectKey,
    pub uid: String,
    /// `None`: its removal.
    pub version: Option<ResourceVersion>,
}

/// Names one sending of this session; ascending.
pub type Ticket = u64;

/// Something to send.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub ticket: Ticket,
    pub body: Downstream,
    pub mark: u64,
    /// What the node acknowledged last, where differences are kept.
    pub base: Option<Json>,
}

/// What may wait for its acknowledgement at once.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub messages: usize,
    pub bytes: usize,
}

impl Window {
    /// Go edges work through messages one by one.
    pub const KUBEEDGE: Window = Window { messages: 32, bytes: 4 * 1024 * 1024 };
    /// What watches of a Go edge show, beside the rest.
    pub const WATCHED: Window = Window { messages: 8, bytes: 1024 * 1024 };
    /// Native edges commit in groups.
    pub const NATIVE: Window = Window { messages: 1024, bytes: 1024 * 1024 };
}

/// Time after which an unacknowledged message is sent again (KubeEdge's 5 s).
pub const RESEND_AFTER: Duration = Duration::from_secs(5);
