//! Kubernetes' Protobuf messages (`generated.proto`), as data of the program: of every kind of a stable version, which fields it has,
//! under which numbers and names, and how Go writes what is not set.
//!
//! The table is made by `cargo run -p xtask -- protobuf FOLDER` and is read where it lies, without an allocation.
//! `common/apimachinery/schemas/NOTICE-messages` says which release it is of and under which licence.

pub mod format;
mod table;

pub use table::{Field, Kind, Message, Of, Place, Shape, all};

#[cfg(test)]
mod tests;
