//! What the demo, the end-to-end tests and the benchmarks are made of: a scratch site with its own cloud, edges,
//! container runtime and a link that can be cut. Everything is a real process; everything started is stopped again,
//! by pid, and nothing is left behind.

pub mod account;
pub mod balancer;
pub mod cgroups;
pub mod clients;
pub mod cloud;
pub mod connect_proxy;
pub mod containerd;
pub mod csi_driver;
pub mod edge;
pub mod given;
pub mod images;
pub mod kubectl;
pub mod listening;
pub mod memory;
pub mod metaserver;
pub mod noise;
pub mod pair;
pub mod ports;
pub mod process;
pub mod programs;
pub mod relay;
pub mod replica;
pub mod site;
pub mod wait;
pub mod wire;
