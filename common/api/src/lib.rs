//! Causeway's API types: configuration files, custom resources and their definitions.
//!
//! Pure data. Objects that are stored or forwarded stay raw JSON; the types here are views for reading them.

#![deny(clippy::missing_errors_doc)]

pub mod config;
pub mod crds;
pub mod devices;
pub mod refused;
pub mod reliablesyncs;
