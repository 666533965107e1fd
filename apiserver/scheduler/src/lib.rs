//! A scheduler: gives pods of `default-scheduler` a node, as kube-scheduler does with its default plugins; pods of
//! lower priority make room for those that fit nowhere.
//!
//! It is a [`controllers::shell::Controller`] and shares the caches of the others. A round looks at all pods that wait, those of
//! higher priority first: `filter` says for each node why not, `score` which of the rest is best. What is kept beside
//! the caches are a few numbers for each pod (`facts`), so that a round reads no pod twice.

mod affinity;
mod facts;
mod filter;
mod nodes;
mod preempt;
mod round;
mod score;
mod spread;
mod terms;
mod volumes;

pub use round::Scheduler;
