//! A cloud of several replicas and some edges in one thread, on a simulated network, driven by one seed.
//!
//! What runs is the code that ships: the placement graph, the desired sets and both halves of the native dialect with
//! their codec, and the statements of the edge's database. What is simulated is around them: the API server, watches
//! that lag, frames on their way, crashes between any two steps, transactions that are torn, links that are cut at one
//! end only. After every run the promises of the house are checked (ARCHITECTURE.md): every edge has what it should
//! have, no version went back, no pod was taken from its node while it existed, every report reached the API server
//! once and in order, and the outboxes are empty.

mod api;
mod cloud;
mod edge;
mod half;
mod network;
mod world;

pub use half::Dialect;
pub use world::run;
