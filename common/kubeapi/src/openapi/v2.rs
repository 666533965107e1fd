//! The one document of OpenAPI v2, which kubectl up to 1.26 reads.

use std::collections::BTreeMap;

use apimachinery::schemas::definitions::{PREFIX, definitions};
use serde_json::{Map, Value, json};

use super::{belongs, custom, custom_version, identity, info, prefix, served};
use crate::registry::Registry;

pub(super) fn document(catalog: &Registry) -> Value {
    let mut kinds: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut paths = Map::new();
    let mut own = Map::new();
    for (resource, version) in served(catalog) {
        kinds.entry((resource.group.clone(), version.clone())).or_default().push(resource.kind.clone());
        let namespace = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("/{}{namespace}/{}", prefix(&resource, &version), resource.plural);
        let gvk = identity(&resource, &version);
        let operation = |action: &str, names: &[&str]| {
            let parameters: Vec<Value> = names.iter().map(|name| parameter(name)).collect();
            json!({
                "operationId": format!("{action}{}{version}{}", resource.group.replace(['.', '-'], ""), resource.kind),
                "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk, "parameters": parameters,
                "responses": { "200": { "description": "OK" } },
            })
        };
        let write = ["dryRun", "fieldManager", "fieldValidation"];
        let patch = ["dryRun", "fieldManager", "fieldValidation", "force"];
        let item = json!({
            "get": operation("get", &[]), "put": operation("put", &write), "patch": operation("patch", &patch),
            "delete": operation("delete", &["dryRun"]),
        });
        paths.insert(format!("{collection}/{{name}}"), item);
        let all = json!({ "get": operation("list", &[]), "post": operation("post", &write) });
        paths.insert(collection, all);
        if resource.namespaced {
            let everywhere = format!("/{}/{}", prefix(&resource, &version), resource.plural);
            paths.insert(everywhere, json!({ "get": operation("list", &[]) }));
        }
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
    json!({ "swagger": "2.0", "info": info(), "paths": paths, "definitions": all })
}

fn parameter(name: &str) -> Value {
    json!({ "name": name, "in": "query", "type": "string", "uniqueItems": true })
}

/// The name that a reference leads to.
pub(super) fn target(reference: &str) -> &str {
    reference.strip_prefix(PREFIX).unwrap_or(reference)
}
