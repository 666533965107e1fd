//! The dialect `causeway.v1`: frames between our own CloudCore and EdgeCore (see `proto/native.proto`).
//!
//! This crate is pure: bytes to frames and back, compression, differences between two texts of an object, and the
//! digests by which two ends find out what they do not share. Everything read from a peer has a limit that holds before
//! memory is spent on it.

#![deny(clippy::missing_errors_doc)]

mod canonical;
mod codec;
mod delta;
mod dictionary;
mod digest;
mod envelopes;

pub use codec::{FrameError, decode, encode, split, unpacked_size};
pub use delta::{DeltaError, apply, difference, text_hash};
pub use dictionary::TEXT as DICTIONARY;
#[cfg(feature = "train")]
pub use dictionary::train;
pub use digest::{Digest, NODES_CONDITIONS, mark};
pub use envelopes::{BadEnvelope, Envelopes};

/// The generated frames.
pub mod frames {
    #![allow(missing_docs, clippy::pedantic)]
    include!(concat!(env!("OUT_DIR"), "/causeway.v1.rs"));
}

/// Name of the dialect: WebSocket subprotocol and QUIC ALPN.
pub const NAME: &str = "causeway.v1";

/// Largest frame, plain. etcd takes objects of 1.5 MiB; base64 and JSON around one stay well below this.
pub const MAX_FRAME_BYTES: usize = 8 * 1024 * 1024;

/// Objects put into one frame until it has this many bytes, so that a status never waits long behind a batch.
pub const BATCH_BYTES: usize = 64 * 1024;
