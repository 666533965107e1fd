//! One cloud-edge connection over mutual TLS: WebSocket in the KubeEdge dialect (docs/protocol/transport.md section 2) or in the
//! native one, or QUIC in the native one.
//!
//! ```text
//! Dialer --offers causeway.v1--> Acceptor          WebSocket; a peer that does not know it speaks KubeEdge's dialect
//! Dialer --ALPN causeway.v1----> quic::Endpoint    QUIC
//! ```
//!
//! A connection is a sender and a receiver, of [`message::Message`] or of [`native::frames`]. Every read and write has a
//! byte limit, every handshake and write a deadline. Nothing here knows what messages mean.

#![deny(clippy::missing_errors_doc)]

mod accept;
pub mod alpn;
mod budget;
mod connection;
mod dial;
mod error;
mod frames;
mod halves;
mod large;
pub mod memory;
mod outlet;
pub mod quic;
mod side;
mod way;

pub use accept::{Accepted, Acceptor, Hello, Refusal};
pub use budget::Budget;
pub use connection::{CloseReason, Incoming, Receiver, Sender};
pub use dial::{Dialer, Offer, Target, host_of};
pub use error::{AcceptError, DialError, ReceiveError, SendError};
pub use frames::{FrameReceiver, FrameSender, IncomingFrame};
pub use halves::{ReceiveHalf, SendHalf};
pub use outlet::Outlet;
pub use side::{Place, SideStream, SideStreams};
pub use way::{NotAProxy, Way};

use std::time::Duration;

/// Time for TLS and the WebSocket upgrade together. A peer that has not spoken by then is dropped.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time one message may take to be written before the peer counts as stalled (KubeEdge's writeDeadline).
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// Value of the `Connectionuse` header on the message channel; the Go server reads from no other.
const USE_MESSAGES: &str = "msg";

/// What two ends speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    KubeEdge,
    Native,
}

impl Dialect {
    pub fn as_str(self) -> &'static str {
        match self {
            Dialect::KubeEdge => "kubeedge",
            Dialect::Native => native::NAME,
        }
    }
}

/// What carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    Quic,
}

impl Transport {
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::WebSocket => "websocket",
            Transport::Quic => "quic",
        }
    }
}

/// The two halves of a connection in the dialect both ends agreed on.
pub enum Link {
    KubeEdge(Sender, Receiver),
    Native(FrameSender, FrameReceiver),
}

impl Link {
    pub fn dialect(&self) -> Dialect {
        match self {
            Link::KubeEdge(..) => Dialect::KubeEdge,
            Link::Native(..) => Dialect::Native,
        }
    }

    pub fn transport(&self) -> Transport {
        match self {
            Link::KubeEdge(..) => Transport::WebSocket,
            Link::Native(sender, _) => sender.transport(),
        }
    }

    /// Says why and closes. Best effort.
    pub async fn close(self, reason: CloseReason) {
        match self {
            Link::KubeEdge(sender, _) => sender.close(reason).await,
            Link::Native(sender, _) => sender.close(reason).await,
        }
    }
}
