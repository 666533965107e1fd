//! CloudCore: the cloud end of Causeway. See ARCHITECTURE.md for the two streets; each room's header says what it owns.

pub mod app;
pub mod approver;
pub mod autonomy;
pub mod cloudhub;
pub mod cloudstream;
pub mod desired;
pub mod devicecontroller;
pub mod dynamiccontroller;
pub mod edgecontroller;
pub mod edgelink;
pub mod front;
pub mod housekeeping;
pub mod kubernetes;
pub mod nodestreams;
pub mod peers;
pub mod refused;
pub mod settings;
pub mod standalone;
pub mod synccontroller;
pub mod tunnels;
pub mod upstream;
pub mod webhooks;
