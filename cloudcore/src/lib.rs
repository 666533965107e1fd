//! CloudCore: the cloud end of Causeway. See ARCHITECTURE.md for the two streets; each room's header says what it owns.

pub mod app;
pub mod cloudhub;
pub mod desired;
pub mod devicecontroller;
pub mod edgecontroller;
pub mod housekeeping;
pub mod kubernetes;
pub mod refused;
pub mod settings;
pub mod synccontroller;
pub mod upstream;
