//! MetaServer over its socket, in front of an embedded API server at the other end of a link that is cut and mended.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "tests wait for nobody else")]

mod client;
mod cloud;
mod cuts;
mod filters;
mod hub;
mod kubectl;
mod kubelet;
mod node;
mod reads;
mod sizes;
mod users;
mod watches;
mod writes;
