//! Other people's clients of the Kubernetes API against this project's servers: what scripts do with them, and what their informers tell.
//!
//! The scripts are in `python` and `js`; [`harness::clients`] says how they are installed.

pub mod informers;
pub mod node;
pub mod server;
