//! One cloud-edge connection: WebSocket over mutual TLS, KubeEdge dialect (spec/transport.md section 2).
//!
//! A connection is a [`Sender`] and a [`Receiver`] of [`message::Message`]. Every read and write has a byte limit, every
//! handshake and write a deadline. Nothing here knows what messages mean.

mod accept;
mod connection;
mod dial;
mod error;
pub mod memory;

pub use accept::{Accepted, Acceptor, Hello};
pub use connection::{CloseReason, Incoming, Receiver, Sender};
pub use dial::{Dialer, Target};
pub use error::{AcceptError, DialError, ReceiveError, SendError};

use std::time::Duration;

/// Time for TLS and the WebSocket upgrade together. A peer that has not spoken by then is dropped.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time one message may take to be written before the peer counts as stalled (KubeEdge's writeDeadline).
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// Value of the `Connectionuse` header on the message channel; the Go server reads from no other.
const USE_MESSAGES: &str = "msg";
