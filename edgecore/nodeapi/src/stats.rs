//! What node, pods and containers use; read when asked, from cgroups, /proc, file systems and the runtime.
//!
//! Nothing samples in the background: rates of CPU are differences to the readings of the request before, so the first
//! request after a start has none. Source: docs/protocol/edge-runtime.md 6.7, 7.1; names are those of the Summary API.

mod collect;
mod disk;
mod network;
mod rates;
mod summary;

pub(super) use rates::Rates;
#[cfg(test)]
pub(crate) use summary::{ContainerUsage, NodeUsage, PodReference, PodUsage};
pub(super) use summary::{Cpu, Memory, Network, Summary};
