//! What every node should have, and what of it each connected node has acknowledged.
//!
//! ```text
//! sources (pods and what they refer to, devices) --> Change --> NodeSet --> session of the node --> records
//! placement   which pods are where, and which config maps, secrets and claims they refer to
//! ```
//!
//! Imports neither the sources, which are controllers, nor the hub, whose sessions read it.

mod change;
mod node_set;
mod placement;
mod records;
mod sending;
mod sources;
mod state;
mod text;

pub use change::Change;
pub use node_set::{NodeSet, Notices};
pub use placement::{Arrived, Placement};
pub use records::Records;
pub use sending::{Outgoing, RESEND_AFTER, Settled, Ticket, Wanted, Window};
pub use sources::{Sets, Source, Sources};
pub use state::Desired;
pub use text::Text;
