//! Pods: what a server fills in and what it refuses, for the API and for pods that no API has seen.

pub mod defaults;
pub mod references;
mod rules;

pub use rules::problems;
