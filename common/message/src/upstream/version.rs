//! The version of an object that is an answer.

use serde::Deserialize;

use crate::Json;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    #[serde(rename = "resourceVersion")]
    resource_version: String,
}

/// Empty if it says none; `None` for what is no object.
pub(super) fn of(object: &Json) -> Option<String> {
    object.parse::<Object>().ok().map(|read| read.metadata.resource_version)
}
