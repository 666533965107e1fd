//! Nodes that are not heard of: their conditions become unknown, they are tainted, and their pods go when they tolerate it
//! no longer (`pkg/controller/nodelifecycle`, `pkg/controller/tainteviction`).
//!
//! While no node at all is ready, nothing is evicted: then it is more likely this side that is cut off. Upstream's zones and the
//! slower pace of evictions in large clusters are not known here.

mod eviction;
mod health;
mod taints;

pub use eviction::Evictions;
pub use health::Health;
