//! Documents of OpenAPI v3: one of each group and version, and the list of them.

use apimachinery::schemas::definitions::definitions;
use serde_json::{Map, Value, json};

use super::operations::{Edition, Names, Told};
use super::{belongs, custom, custom_version, hash, info, prefix, served, v2};
use crate::registry::Registry;

pub(super) fn index(catalog: &Registry) -> Value {
    let mut paths = Map::new();
    for (resource, version) in served(catalog) {
        let place = prefix(&resource, &version);
        if !paths.contains_key(&place) {
            let hash = hash(catalog, |resource, version| prefix(resource, version) == place);
            let url = format!("/openapi/v3/{place}?hash={hash}");
            paths.insert(place, json!({ "serverRelativeURL": url }));
        }
    }
    json!({ "paths": paths })
}

/// The document at `wanted`, such as `apis/apps/v1`.
pub(super) fn document(catalog: &Registry, wanted: &str) -> Value {
    let mut own = Map::new();
    let mut kinds = Vec::new();
    let (mut group, mut name) = (String::new(), String::new());
    let here = || served(catalog).filter(|(one, version)| prefix(one, version) == wanted);
    for (resource, version) in here() {
        if let Some(version) = custom_version(&resource, &version) {
            own.extend(custom::definitions(&resource, version));
        }
        kinds.push(resource.kind.clone());
        (group, name) = (resource.group.clone(), version);
    }
    let is_meta = |schema: &Value| belongs(schema, "", "v1", &[]);
    let mut schemas: Map<String, Value> = match own.is_empty() {
        true => definitions(|schema| belongs(schema, &group, &name, &kinds)).into_iter().collect(),
        // ObjectMeta comes with what is sent beside objects.
        false => definitions(is_meta).into_iter().collect(),
    };
    schemas.extend(own);
    for schema in schemas.values_mut() {
        refer(schema);
    }
    let names = Names::of(&schemas);
    let mut paths = Map::new();
    for (resource, name) in here() {
        let Some(version) = resource.versions.iter().find(|one| one.name == name) else { continue };
        let told = Told { edition: Edition::V3, names: &names, resource: &resource, version };
        paths.extend(told.paths(wanted));
    }
    json!({ "openapi": "3.0.0", "info": info(), "paths": paths, "components": { "schemas": schemas } })
}

/// Makes references those of v3. What stands beside one would be left out by its readers, so that it is put around it.
fn refer(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.values_mut().for_each(refer);
            let Some(reference) = map.get("$ref").and_then(Value::as_str) else { return };
            let reference = json!(format!("#/components/schemas/{}", v2::target(reference)));
            if map.len() == 1 {
                map.insert("$ref".to_owned(), reference);
            } else {
                map.remove("$ref");
                map.insert("allOf".to_owned(), json!([{ "$ref": reference }]));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(refer),
        _ => {}
    }
}
