//! EdgeCore: the edge end of Causeway. See ARCHITECTURE.md for the two streets; each room's header says what it owns.

pub mod app;
pub mod database;
pub mod devicetwin;
pub mod doors;
pub mod edged;
pub mod edgehub;
pub mod eventbus;
pub mod host;
pub mod metamanager;
mod metrics;
pub mod settings;
