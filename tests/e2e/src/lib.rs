//! End-to-end tests on real processes: the programs, kubectl, containerd, TLS, SQLite, kill -9.

pub mod ca;
pub mod go_cloud;
pub mod go_edge;
pub mod in_cluster;
pub mod judge;
pub mod life_cycle;
pub mod peer;
pub mod players;
pub mod pods;
pub mod recorded;
pub mod skip;
pub mod stock;
pub mod terminal;
pub mod web;
