//! What a Kubernetes API server answers, as data: `cases/GROUP.yaml` holds requests and the answers they get, each with the page,
//! KEP or upstream source file that says so, and this crate runs them against any API server.
//!
//! [`load`] reads and checks the cases, [`connect`] leads to the [`Cluster`] they run on, [`run`] runs them beside one another, each on
//! objects of its own, and [`Outcome`] tells what was expected and what came. `cargo xtask conformance` is the program,
//! `tests/groups.rs` the test that runs all of them on the embedded API server.

mod case;
mod client;
mod cluster;
mod compare;
mod connect;
mod ground;
mod known;
mod outcome;
mod run;
mod server;
mod step;
mod watch;
mod words;

pub use case::{Case, Group, LoadError, load};
pub use cluster::{Cluster, ClusterError};
pub use connect::connect;
pub use known::Known;
pub use outcome::{Outcome, Summary, Verdict};
pub use run::run;
pub use server::Embedded;
