//! EdgeController: pods, config maps, secrets and nodes down; registrations, statuses, leases, queries and events up.
//!
//! Owns the placement graph ([`crate::desired`]). `downstream` is its only writer; `Rights` and new sessions read it.

mod bodies;
mod downstream;
pub mod events;
mod own;
mod reports;
mod rights;
pub mod upstream;

pub use bodies::fetch_missing;
pub use downstream::{Downstream, WATCHED, comes_after};
pub use rights::{Rights, is_for_own_name};
