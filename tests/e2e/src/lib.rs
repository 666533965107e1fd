//! End-to-end tests on real processes: the programs, kubectl, containerd, TLS, SQLite, kill -9.

pub mod ca;
pub mod peer;
pub mod skip;
