//! Definitions of custom resources, as apiextensions publishes them.

use apimachinery::schemas::definitions::PREFIX;
use serde_json::{Map, Value, json};

use crate::registry::{Resource, Version};

const GVK: &str = "x-kubernetes-group-version-kind";
const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// What a definition says about `apiVersion` and `kind`, which every object has.
fn text() -> Value {
    json!({ "type": "string" })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("{PREFIX}{name}") })
}

/// (name, schema) of a version and of its list, in the form of OpenAPI v2 but for what only v3 has inside the schema.
pub(super) fn definitions(resource: &Resource, version: &Version) -> [(String, Value); 2] {
    let name = name(resource, &version.name);
    let gvk = |kind: &str| json!([{ "group": resource.group, "version": version.name, "kind": kind }]);
    let mut schema = version.schema.clone().unwrap_or_else(|| json!({ "type": "object" }));
    let mut list_schema = json!({ "type": "object", "required": ["items"], "properties": {
        "apiVersion": text(), "kind": text(), "metadata": reference(LIST_METADATA),
        "items": { "type": "array", "items": reference(&name) },
    }});
    for (field, value) in [("apiVersion", text()), ("kind", text()), ("metadata", reference(METADATA))] {
        schema["properties"][field] = value;
    }
    schema[GVK] = gvk(&resource.kind);
    list_schema[GVK] = gvk(&resource.list_kind);
    [(name.clone(), schema), (format!("{name}List"), list_schema)]
}

/// `io.demo.v1.Thing` for Things of `demo.io/v1`.
pub(super) fn name(resource: &Resource, version: &str) -> String {
    let parts: Vec<&str> = resource.group.rsplit('.').collect();
    format!("{}.{version}.{}", parts.join("."), resource.kind)
}

/// A definition in OpenAPI v2. Of one that keeps unknown fields nothing is said, as kubectl would refuse what it does not name
/// (`apiextensions-apiserver/pkg/controller/openapi/builder/builder.go`).
pub(super) fn definition_for_v2(schema: &Value) -> Value {
    match schema["x-kubernetes-preserve-unknown-fields"] == true {
        true => json!({ "type": "object", GVK: schema[GVK] }),
        false => for_v2(schema),
    }
}

/// A schema without what OpenAPI v2 cannot say, as apiextensions' `ToStructuralOpenAPIV2` leaves it out: what may be null, or a
/// number or text, has no type, and what keeps unknown fields tells of none.
fn for_v2(schema: &Value) -> Value {
    let Some(map) = schema.as_object() else { return schema.clone() };
    let is_on = |key: &str| map.get(key).and_then(Value::as_bool).unwrap_or(false);
    let is_open = is_on("x-kubernetes-preserve-unknown-fields");
    let is_untyped = is_on("nullable") || is_on("x-kubernetes-int-or-string");
    let mut out = Map::new();
    for (key, value) in map {
        let kept = match key.as_str() {
            "anyOf" | "oneOf" | "not" | "allOf" | "nullable" | "default" => continue,
            "type" if is_untyped => continue,
            "properties" | "items" | "additionalProperties" | "required" if is_open || is_untyped => continue,
            "properties" => {
                let fields = value.as_object().into_iter().flatten();
                Value::Object(fields.map(|(name, inner)| (name.clone(), for_v2(inner))).collect())
            }
            "items" | "additionalProperties" => for_v2(value),
            _ => value.clone(),
        };
        out.insert(key.clone(), kept);
    }
    Value::Object(out)
}
