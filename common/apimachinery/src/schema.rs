//! Structural schemas of custom resources: [`prune`] unknown fields, fill in [`defaults`], [`validate`].
//!
//! Schemas are read as raw JSON each time; a CRD's schema is checked by whoever writes it. Object depth is bounded by
//! the JSON parser's recursion limit, so recursion here is bounded too.

mod defaults;
mod prune;
pub mod structural;
mod validate;

use serde_json::Value;

pub use defaults::{defaults, has_defaults};
pub use prune::prune;
pub use validate::validate;

/// True if the schema switches `extension` on.
pub(crate) fn flag(schema: &Value, extension: &str) -> bool {
    schema.get(extension).and_then(Value::as_bool).unwrap_or(false)
}

#[cfg(test)]
mod tests;
