//! The Node API in hub form: what the cloud asks of this node goes to the kubelet that runs here.
//!
//! ```text
//! link, MetaServer --unix socket (0600)--> door --> paths: is it the Node API's --> forward --TLS on this machine--> kubelet
//!                                                                                     |  holder: who has its end
//!                                                                                     |  passes: a token that is shown to it
//! kubelet --TokenReview, SubjectAccessReview--> MetaServer --> reviews <--------------+
//! ```
//!
//! A kubelet asks its API server who shows a token, and what he may do; here that is MetaServer. So EdgeCore shows a token of its own
//! making, and MetaServer knows it.
//!
//! Owns the socket file and the tokens. Promises: a token is random, in memory only, good for one request and for a minute at most; it
//! is sent to nobody but a process of EdgeCore's own user on this machine; what the caller showed to the cloud does not reach the
//! kubelet; requests at once, heads and waits are bounded, and bodies are handed on as they come.

mod door;
mod forward;
mod holder;
mod passes;
mod paths;
mod refusal;
mod reviews;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use door::{BuildError, Door};
pub use passes::{NoRandomness, Passes, USER};
pub use reviews::Question;

/// Where the Node API is served, and whom it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The unix socket; its mode is 0600.
    pub socket: PathBuf,
    /// The kubelet, at an address of this machine.
    pub kubelet: SocketAddr,
    /// The user whose process the kubelet has to be: EdgeCore's own.
    pub owner: u32,
}
