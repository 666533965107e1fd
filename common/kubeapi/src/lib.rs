//! The HTTP face of a Kubernetes API server, over any [`Backend`].
//!
//! ```text
//! socket -> serve (Door: TLS or plain) -> Api::respond -> authenticate, authorise
//!     -> discovery, openapi, health, version                      answered here, from the catalogue
//!     -> get, list, watch -> Backend::{get, list, subscribe, replay} -> render, tables
//!     -> everything else  -> Backend::{answer, compute, plain}
//! ```
//!
//! A backend brings objects, users and rights, and whatever writes; it gets negotiation, selectors, pages, tables, watches with
//! bookmarks, Protobuf both ways, discovery and OpenAPI. Objects are stored without `apiVersion` and `kind`: answers are made of
//! stored texts without parsing them, where a client wants whole objects.

#![deny(clippy::missing_errors_doc)]

mod attributes;
pub mod audit;
pub mod backend;
pub mod call;
mod counts;
mod discovery;
mod dispatch;
pub mod events;
pub mod faces;
mod gzip;
mod held;
mod inflight;
mod lens;
mod openapi;
mod parts;
pub mod peer;
mod pieces;
mod protobuf;
mod read;
pub mod registry;
pub mod render;
pub mod request;
pub mod respond;
mod server;
pub mod stored;
mod tables;
pub mod target;
pub mod tls;
pub mod user;
pub mod warnings;
mod watch;

pub use backend::Backend;
pub use call::{Call, Question, Reader};
pub use dispatch::{Api, Settings};
pub use inflight::Limits;
pub use peer::{Certificate, Peer};
/// Protobuf from elsewhere, as a body of a request is read.
pub use protobuf::parse as from_protobuf;
pub use server::{CONNECTIONS, Door, Transport, serve};
