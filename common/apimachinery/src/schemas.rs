//! Schemas of the built-in kinds, as Kubernetes publishes them (`api/openapi-spec`), as data of the program.
//!
//! They lie in the program in two forms, both made by `cargo run -p xtask -- schemas DOCUMENT`:
//! * a table of [`Type`]s that is read where it is, without an allocation: which fields there are, of which type, and how lists
//!   and maps merge. Validation, patches and field ownership read it.
//! * the [`definitions`] with their descriptions, compressed, for the OpenAPI documents of `kubectl explain`. They take heap only
//!   while a document is being made.
//!
//! `common/apimachinery/schemas/NOTICE` says which document it was and under which licence.

pub mod definitions;
pub mod format;
mod table;

pub use table::{Field, Lists, Scalar, Shape, Type};

#[cfg(test)]
mod tests;
