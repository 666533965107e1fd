//! CloudHub: where edges arrive.
//!
//! ```text
//! register (HTTPS)   CA, certificates for join tokens, is this name taken
//! acceptor           TLS + WebSocket, who are you  -->  session (one task per node)
//! session            down: desired set -> frames -> acks     up: frames -> upstreams -> answers
//! volumes            storage calls of a CSI driver in the cloud, to a node and back
//! registry           which session a node has now; a newer one takes over
//! signers            which CA signed what each node has
//! ```
//!
//! Owns the live sessions and, through [`material`], the CA. Knows no controller: they are sources of a session's desired set
//! ([`crate::desired::Source`]) and never wait for a node; who carries out what nodes send is given to it as [`Upstreams`].

mod acceptor;
mod admission;
pub mod exchange;
mod handshakes;
pub mod kubeedge;
pub mod material;
mod metrics;
mod rate_accounts;
pub mod register;
mod registry;
pub mod session;
mod signers;
mod streams;
pub mod uplog;
mod upstreams;
mod volumes;

pub use acceptor::{CloudHub, HubError, Settings};
pub use metrics::{Loss, Metrics};
pub use rate_accounts::{Charge, RateAccounts};
pub use registry::{Registry, SessionHandle};
pub use session::Rooms;
pub use signers::Signers;
pub use streams::{NoStream, StreamDoor};
pub use upstreams::{Row, Upstreams};
pub use volumes::{VolumeSocket, Volumes};
