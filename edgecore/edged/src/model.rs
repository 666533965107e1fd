//! What a pod asks for, what was found of it, what follows, and what is told of it. No I/O but the reading of [`observed`].
//!
//! ```text
//! spec, demand, resources, fields, expand   what the pod object says
//! order, board                              what the node was told, and which pods it has
//! observed                                  what the runtime has
//! admission, decision                        whether it may run here, and what the node decided
//! plan, backoff                             what is to be done next
//! status                                    what is told of it
//! ```

pub mod admission;
pub mod backoff;
pub mod board;
pub mod demand;
pub mod expand;
pub mod fields;
pub mod observed;
pub mod order;
pub mod plan;
pub mod quantity;
pub mod resources;
pub mod spec;
pub mod status;
pub mod stop_decision;
pub mod termination;
