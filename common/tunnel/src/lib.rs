//! KubeEdge's stream tunnel (docs/protocol/transport.md 6): connections to a node's Node API through a WebSocket of their own,
//! for Go edges in our cloud and for our edges in a Go cloud.
//!
//! ```text
//! CloudEnd: pipe (HTTP/1.1) --request--> Connect, Data ~~~~ tunnel ~~~~> EdgeEnd --> Node API
//!                           <----------- answer, Data  <~~~~~~~~~~~~~~~
//! ```
//!
//! The protocol has no credit. Who sends more than the other side reads fills a queue of [`QUEUE`] bytes, then loses that
//! connection and no other.

#![deny(clippy::missing_errors_doc)]

mod cloud;
mod edge;
mod error;
mod frame;
mod handshake;
mod lanes;
mod request;
mod session;
mod socket;
mod websocket;

pub use cloud::CloudEnd;
pub use edge::{EdgeEnd, TunnelEnd};
pub use error::SocketError;
pub use frame::{Frame, FrameError, Kind};
pub use handshake::{ADDRESS, DialError, NODE, PATH, accept, dial};
pub use request::{Connect, GoUrl};
pub use session::{Asked, Over, run_cloud, run_edge};

/// Bytes that may wait for one connection.
pub const QUEUE: usize = 4 * 1024 * 1024;

/// Connections of one tunnel at once.
pub const CONNECTIONS: usize = 128;

/// Bytes of one message of data. Go's ends take 1 MiB and cut what is beyond.
const CHUNK: usize = 32 * 1024;

#[cfg(test)]
mod tests;
