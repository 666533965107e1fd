//! Streams: connections of bytes inside a session of the native dialect. Those that the cloud opens lead to the edge's Node API,
//! those that the edge opens to the API server.
//!
//! ```text
//! cloud  open() --> Pipe                      a program at the edge <-- socket
//!          |                                                              |
//!        relay --frames--> [session] ~~~~~~~ [session] --frames--> relay--+
//! ```
//!
//! Each stream has a task that reads only as much as the other end gave it credit for, so that a stream nobody reads holds
//! up neither the others nor the session, and costs each end at most [`WINDOW`] bytes. Frames leave one by one, in turn, when
//! the session has nothing else to write. `proto/native.proto` has the frames. Over QUIC streams go beside the frames ([`carry`]).

#![deny(clippy::missing_errors_doc)]

mod credit;
mod mux;
mod pack;
mod relay;
mod side;

pub use mux::{End, Mux, Violation};
pub use side::carry;

/// What an end takes of a stream before it gives more credit, in bytes.
pub const WINDOW: usize = 256 * 1024;

/// Bytes of one frame of data.
const CHUNK: usize = 32 * 1024;

/// What a frame costs beside its data, so that small ones are bounded as well.
const FRAME: usize = 64;

/// Streams of one session at once that the cloud opened.
pub const STREAMS: usize = 128;

/// Streams of one session at once that the edge opened.
pub const STREAMS_OF_EDGE: usize = 64;
