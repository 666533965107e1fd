//! The only room that touches the Kubernetes client: plain requests with raw JSON, and watches.
//!
//! Objects stay raw JSON. A failure is a [`message::Status`], so that it can go down the link as it is.

mod cluster;
mod first;
mod follower;
mod install;
mod leader;
mod metrics;
mod raw;
mod recovery;
mod resource;
mod selection;
mod watch;

pub(crate) use cluster::to_status;
pub use cluster::{Cluster, ConnectError, Merge};
pub use first::when_served;
pub use follower::Follower;
pub use install::{InstallError, install_crds};
pub use leader::{WorkEnded, lead};
pub use metrics::Metrics;
pub use raw::Meta;
pub use recovery::Recovery;
pub use resource::{Resource, identity};
pub use selection::Selection;
pub use watch::{FromWatch, WatchEvent, feed};
