//! The controllers of kube-controller-manager that make a small cluster whole, on any API ([`api::Api`]).
//!
//! Each controller is a room: pure functions that say what is to be done, and a small shell that does it. [`shell::run`]
//! drives them: informers keep one [`cache::Cache`] for all, changes become keys in each controller's [`queue::Queue`], one
//! worker takes them. A controller that wrote waits until the cache shows it, so it never acts on what it has changed
//! itself. When nothing changes, nothing runs.

#![deny(clippy::missing_errors_doc)]

pub mod api;
pub mod cache;
pub mod client;
pub mod conditions;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod events;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod hash;
mod informer;
pub mod job;
pub mod nodes;
mod ownership;
pub mod percent;
pub mod placement;
pub mod pods;
pub mod protection;
pub mod queue;
pub mod replicaset;
mod revisions;
pub mod shell;
pub mod statefulset;
pub mod time;
mod touched;
pub mod volumes;

/// All controllers, in the order of their names.
pub fn all() -> Vec<Box<dyn shell::Controller>> {
    vec![
        Box::new(cronjob::CronJobs),
        Box::new(daemonset::DaemonSets),
        Box::new(deployment::Deployments),
        Box::new(disruption::Disruptions),
        Box::new(endpoints::Lists),
        Box::new(endpoints::Slices),
        Box::new(endpoints::Mirrors),
        Box::new(job::Jobs),
        Box::new(job::Ttl),
        Box::new(nodes::Health::default()),
        Box::new(replicaset::ReplicaSets),
        Box::new(replicaset::ReplicationControllers),
        Box::new(statefulset::StatefulSets),
        Box::new(nodes::Evictions::default()),
        Box::new(volumes::Binder),
        Box::new(protection::Volumes),
        Box::new(protection::Claims),
    ]
}
