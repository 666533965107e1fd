//! Podmodel: what a pod asks for, what was found of it, what follows, and what is told of it. No handle, and no I/O but the
//! reading of [`observed`].
//!
//! ```text
//! spec, demand, resources, fields, expand   what the pod object says
//! cgroups, machine                          what the configuration says of cgroups, and what the machine has
//! order, board                              what the node was told, and which pods it has
//! observed, termination, opening            what the runtime has
//! admission, stop_decision                  whether it may run here, and what the node decided
//! plan, backoff                             what is to be done next
//! status, errors                            what is told of it
//! ```

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait for nobody else"))]

pub mod admission;
pub mod backoff;
pub mod board;
pub mod cgroups;
pub mod demand;
pub mod errors;
pub mod expand;
pub mod fields;
pub mod machine;
pub mod observed;
pub mod opening;
pub mod order;
pub mod plan;
pub mod quantity;
pub mod resources;
pub mod spec;
pub mod status;
pub mod stop_decision;
pub mod termination;
