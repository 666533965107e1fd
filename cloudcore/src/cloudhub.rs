//! CloudHub: where edges arrive.
//!
//! ```text
//! register (HTTPS)   CA, certificates for join tokens, is this name taken
//! acceptor           TLS + WebSocket, who are you  -->  session (one task per node)
//! session            down: desired set -> frames -> acks     up: frames -> authz -> upstream -> answers
//! volumes            storage calls of a CSI driver in the cloud, to a node and back
//! registry           which session a node has now; a newer one takes over
//! signers            which CA signed what each node has
//! ```
//!
//! Owns the live sessions and, through [`material`], the CA. Controllers write into a session's desired set and never
//! wait for a node.

mod acceptor;
mod admission;
pub mod authz;
mod budgets;
pub mod exchange;
mod handshakes;
pub mod material;
mod metrics;
mod rate_accounts;
pub mod register;
mod registry;
pub mod session;
mod signers;
pub mod uplog;
mod upstream;
mod volumes;

pub use acceptor::{CloudHub, HubError, Settings};
pub use budgets::Budgets;
pub use metrics::Metrics;
pub use rate_accounts::RateAccounts;
pub use registry::{Registry, SessionHandle};
pub use session::Rooms;
pub use signers::Signers;
pub use upstream::UpstreamRoom;
pub use volumes::{VolumeSocket, Volumes};
