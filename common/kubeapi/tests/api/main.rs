//! The HTTP face over a backend that stores nothing: what any backend gets for nothing.
#![allow(clippy::unwrap_used)]

mod asking;
mod audit;
mod doors;
mod double;
mod limits;
mod protobuf;
mod reads;
