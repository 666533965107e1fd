//! The one document of OpenAPI v2, which kubectl up to 1.26 reads.

use std::collections::BTreeMap;

use apimachinery::schemas::definitions::{PREFIX, definitions};
use serde_json::{Map, Value, json};

use super::operations::{Edition, Names, Told};
use super::{belongs, custom, custom_version, info, prefix, served};
use crate::registry::Registry;

pub(super) fn document(catalog: &Registry) -> Value {
    let mut kinds: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut own = Map::new();
    for (resource, version) in served(catalog) {
        kinds.entry((resource.group.clone(), version.clone())).or_default().push(resource.kind.clone());
        if let Some(version) = custom_version(&resource, &version) {
            for (name, schema) in custom::definitions(&resource, version) {
                own.insert(name, custom::definition_for_v2(&schema));
            }
        }
    }
    let mut all: Map<String, Value> = definitions(|schema| {
        kinds.iter().any(|((group, version), kinds)| belongs(schema, group, version, kinds))
    })
    .into_iter()
    .collect();
    all.extend(own);
    let names = Names::of(&all);
    let mut paths = Map::new();
    for (resource, name) in served(catalog) {
        let Some(version) = resource.versions.iter().find(|one| one.name == name) else { continue };
        let told = Told { edition: Edition::V2, names: &names, resource: &resource, version };
        paths.extend(told.paths(&prefix(&resource, &name)));
    }
    json!({ "swagger": "2.0", "info": info(), "paths": paths, "definitions": all })
}

/// The name that a reference leads to.
pub(super) fn target(reference: &str) -> &str {
    reference.strip_prefix(PREFIX).unwrap_or(reference)
}
