//! Who owns which fields of an object: `metadata.managedFields` and server-side apply.
//!
//! [`update`] keeps the record when anybody creates, updates or patches; [`apply`] merges what an applier wants into an object,
//! removes what it no longer wants, and finds conflicts. Both follow Kubernetes (docs/protocol/kubernetes-api.md 3; upstream
//! `apimachinery/pkg/util/managedfields` on structured-merge-diff v6). Objects come in stored form, without `kind` and
//! `apiVersion`.
//!
//! Managers that wrote in another version own the fields of that version: an update is looked at in each ([`View`]). An apply is
//! looked at in its own version only, and a schema that changes between granular and atomic does not change what was recorded before.

mod apply;
mod compare;
mod configured;
mod element;
mod managers;
mod merge;
mod remove;
mod schema;
mod set;
mod update;
mod validate;

use serde_json::Value;

pub use apply::{ApplyError, apply};
pub use compare::{Comparison, compare};
pub use configured::configured;
pub use element::Element;
pub use managers::{Managers, Operation, differ_in_times_alone, is_reset};
pub use schema::Schema;
pub use set::Set;
pub use update::{update, update_viewed};

/// Who writes, as the record names him.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    pub manager: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub api_version: &'a str,
    /// RFC 3339, whole seconds.
    pub now: &'a str,
    /// Parts of the object that this writer cannot change: `status` of an object that has it as a subresource.
    pub reset: &'a [&'a str],
}

/// A change as it is in another version, in which others wrote.
#[derive(Clone, Debug)]
pub struct View<'a> {
    pub api_version: String,
    pub schema: Schema<'a>,
    pub old: Value,
    pub new: Value,
}

/// The versions in which managers of an object wrote, each once.
pub fn versions(object: &Value) -> Vec<&str> {
    let record = crate::object::list(object, "/metadata/managedFields").iter();
    let mut versions: Vec<&str> = record.map(|entry| crate::object::text(entry, "/apiVersion")).collect();
    versions.sort_unstable();
    versions.dedup();
    versions
}

/// Fields of the metadata that nobody owns.
const NOBODYS: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// True for a top-level field that nobody owns, or a field of the metadata.
fn is_nobodys(parent: Option<&str>, field: &str) -> bool {
    match parent {
        None => matches!(field, "apiVersion" | "kind"),
        Some(parent) => parent == "metadata" && NOBODYS.contains(&field),
    }
}

#[cfg(test)]
mod tests;
