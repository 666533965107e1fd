//! EdgeController: pods, config maps, secrets and nodes down; registrations, statuses, leases, queries and events up.
//!
//! Owns the placement graph. `downstream` is its only writer; `Rights` and new sessions read it.

mod downstream;
pub mod events;
mod placement;
mod reports;
mod rights;
pub mod upstream;

pub use downstream::{Downstream, WATCHED};
pub use placement::{Change, Placement};
pub use rights::{Rights, is_for_own_name};
