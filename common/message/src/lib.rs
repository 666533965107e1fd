//! The message that crosses the cloud-edge link, and its two typed readings.
//!
//! [`Message`] is the KubeEdge wire envelope (docs/protocol/transport.md section 1): header, route, content. Content stays
//! raw JSON text end to end, so integers above 2^53 and unknown fields survive. [`Downstream`] and [`Upstream`]
//! are what the rooms of the two programs speak; the words of the protocol appear in this crate only.
//!
//! This crate is pure: no sockets, no clock, no runtime. Callers bring the time and the ids are random v4 UUIDs.

#![deny(clippy::missing_errors_doc)]

mod application;
mod codec;
mod downstream;
mod envelope;
mod json;
mod key;
mod names;
mod path;
mod reply;
mod reports;
mod upstream;
mod volume;

pub use apimachinery::kinds::ObjectKind;
pub use apimachinery::status::{Status, is_retryable};
pub use application::{ApiCall, Application, Applications, Asked, Bytes64, Stage, WATCH};
pub use codec::{DecodeError, decode, encode};
pub use downstream::{Downstream, Membership, MembershipEntry, Origin, ParseDownstreamError, Received};
pub use envelope::{Header, Message, MessageId, Route};
pub use json::{Json, JsonError};
pub use key::{ObjectKey, ResourceVersion};
pub use names::{KeyError, NodeName, check_name};
pub use path::trim_node_prefix;
pub use reply::{ObjectResponse, Reply};
pub use reports::{NodeReport, PodReport};
pub use upstream::{ParseUpstreamError, Request, Upstream, Verb};
pub use volume::VolumeCall;

/// Largest envelope either side accepts, in bytes (viaduct's MaxPayloadLen, docs/protocol/transport.md 2.1).
pub const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;
