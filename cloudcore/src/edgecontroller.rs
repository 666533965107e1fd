//! EdgeController: pods, config maps, secrets and nodes down; registrations, statuses, leases, queries and events up.
//!
//! Owns the placement graph ([`crate::desired`]). `downstream` is its only writer; `Rights` and new sessions read it.

mod bodies;
mod downstream;
pub mod events;
mod kubelet_address;
mod mirrors;
mod own;
mod reports;
mod rights;
pub mod upstream;

pub use bodies::fetch_missing;
pub use downstream::{Downstream, Observers, WATCHED, comes_after};
pub use kubelet_address::{KubeletAddress, KubeletHost, is_dns_name};
pub use mirrors::is_mirror_of;
pub use rights::{Rights, SERVING, is_for_own_name};
