//! EdgeCore: the edge end of Causeway. See ARCHITECTURE.md for the two streets; each room's header says what it owns.

pub mod database;
pub mod edged;
pub mod host;
pub mod metamanager;
