//! EdgeCore: the edge end of Causeway. Checks the configuration, then builds and joins the parts, each a crate beside this one: `metamanager`,
//! `edgehub`, `edged`, `devices`. See ARCHITECTURE.md for the two streets.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait for nobody else"))]

pub mod app;
mod doors;
mod metrics;
pub mod settings;
