//! Whether a schema is structural, as definitions of version 1 have to be (`apiextensions-apiserver/pkg/apiserver/schema/validation.go`,
//! `pkg/apis/apiextensions/validation`): each value has one type, said outside of `allOf`, `anyOf`, `oneOf` and `not`.

use serde_json::Value;

use super::flag;
use crate::Cause;
use crate::object::{list, text};

const INT_OR_STRING: &str = "x-kubernetes-int-or-string";
const PRESERVES: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
/// What no schema of a definition may say.
const FORBIDDEN: [&str; 11] = [
    "$ref",
    "definitions",
    "dependencies",
    "deprecated",
    "discriminator",
    "id",
    "patternProperties",
    "readOnly",
    "writeOnly",
    "xml",
    "additionalItems",
];

/// Where a schema is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Field,
    Item,
}

/// What keeps `schema`, which is at `path`, from being structural.
pub fn problems(schema: &Value, path: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    check(schema, path, Level::Root, &mut causes);
    let metadata = schema["properties"]["metadata"]["properties"].as_object().into_iter().flatten();
    if metadata.into_iter().any(|(name, _)| name != "name" && name != "generateName") {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        causes.push(Cause::forbidden(format!("{path}.properties[metadata]"), why));
    }
    causes
}

fn check(schema: &Value, path: &str, level: Level, causes: &mut Vec<Cause>) {
    let Some(fields) = schema.as_object() else { return };
    let kind = text(schema, "/type");
    let field = |name: &str| format!("{path}.{name}");
    for name in FORBIDDEN.iter().filter(|name| fields.contains_key(**name)) {
        causes.push(Cause::forbidden(field(name), &format!("{name} is not supported")));
    }
    if schema["uniqueItems"] == true {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        causes.push(Cause::forbidden(field("uniqueItems"), why));
    }
    if schema["additionalProperties"] == false {
        causes.push(Cause::forbidden(
            field("additionalProperties"),
            "additionalProperties cannot be set to false",
        ));
    }
    let properties = schema["properties"].as_object();
    if properties.is_some_and(|properties| !properties.is_empty())
        && matches!(schema["additionalProperties"], Value::Bool(false) | Value::Object(_))
    {
        let why = "additionalProperties and properties are mutual exclusive";
        causes.push(Cause::forbidden(field("additionalProperties"), why));
    }
    if schema["items"].is_array() {
        let why = "items must be a schema object and not an array";
        causes.push(Cause::forbidden(field("items"), why));
    }
    if kind.is_empty() && !flag(schema, INT_OR_STRING) && !flag(schema, PRESERVES) {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Field => "must not be empty for specified object fields",
            Level::Item => "must not be empty for specified array items",
        };
        causes.push(Cause::required(field("type"), why));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        causes.push(Cause::invalid(field("type"), &schema["type"], "must be object at the root"));
    }
    if flag(schema, EMBEDDED) && kind != "object" && !kind.is_empty() {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        causes.push(Cause::invalid(field("type"), &schema["type"], why));
    }
    if kind == "array" && schema["items"].is_null() {
        causes.push(Cause::required(field("items"), "must be specified"));
    }
    lists(schema, path, causes);
    for name in ["allOf", "anyOf", "oneOf"] {
        for (at, inner) in list(schema, &format!("/{name}")).iter().enumerate() {
            let is_exempt = flag(schema, INT_OR_STRING);
            nested(inner, schema, &format!("{path}.{name}[{at}]"), is_exempt, causes);
        }
    }
    if schema["not"].is_object() {
        nested(&schema["not"], schema, &field("not"), false, causes);
    }
    for (name, inner) in properties.into_iter().flatten() {
        check(inner, &format!("{path}.properties[{name}]"), Level::Field, causes);
    }
    if schema["additionalProperties"].is_object() {
        check(&schema["additionalProperties"], &field("additionalProperties"), Level::Field, causes);
    }
    if schema["items"].is_object() {
        check(&schema["items"], &field("items"), Level::Item, causes);
    }
}

/// Lists that are maps say by which keys.
fn lists(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let (kind, keys) = ("x-kubernetes-list-type", "x-kubernetes-list-map-keys");
    match text(schema, &format!("/{kind}")) {
        "" if !schema[keys].is_null() => {
            let why = "must be map if x-kubernetes-list-map-keys is non-empty";
            causes.push(Cause::required(format!("{path}.{kind}"), why));
        }
        "map" if list(schema, &format!("/{keys}")).is_empty() => {
            let why = "must not be empty if x-kubernetes-list-type is map";
            causes.push(Cause::required(format!("{path}.{keys}"), why));
        }
        "map" => {
            for (at, key) in list(schema, &format!("/{keys}")).iter().enumerate() {
                let name = key.as_str().unwrap_or_default();
                if schema["items"]["properties"].get(name).is_none() {
                    let why = "must be a property of the items schema";
                    causes.push(Cause::invalid(format!("{path}.{keys}[{at}]"), key, why));
                }
            }
        }
        "" | "set" | "atomic" => {}
        other => causes.push(Cause::unsupported(
            format!("{path}.{kind}"),
            &Value::from(other),
            &["atomic", "map", "set"],
        )),
    }
}

/// A part of `allOf`, `anyOf`, `oneOf` or `not` says which values are right, and nothing of what they are. `outer` is what it is
/// a part of. `may_have_type`: as for integers or strings.
fn nested(schema: &Value, outer: &Value, path: &str, may_have_type: bool, causes: &mut Vec<Cause>) {
    let field = |name: &str| format!("{path}.{name}");
    if !text(schema, "/type").is_empty() && !may_have_type {
        causes.push(Cause::forbidden(field("type"), "must be empty to be structural"));
    }
    for (name, why) in [
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("default", "must be undefined to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
    ] {
        if schema.get(name).is_some_and(|value| !value.is_null() && *value != "") {
            causes.push(Cause::forbidden(field(name), why));
        }
    }
    for name in ["nullable", PRESERVES, EMBEDDED, INT_OR_STRING] {
        if flag(schema, name) {
            causes.push(Cause::forbidden(field(name), "must be false to be structural"));
        }
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let here = format!("{path}.properties[{name}]");
        match outer["properties"].get(name) {
            Some(outer) => nested(inner, outer, &here, flag(outer, INT_OR_STRING), causes),
            // What is said of all properties is said of this one.
            None if outer["additionalProperties"].is_object() => {
                nested(inner, &outer["additionalProperties"], &here, false, causes);
            }
            None => {
                let at =
                    path.find(".allOf").or(path.find(".anyOf")).or(path.find(".oneOf")).or(path.find(".not"));
                let outside = format!("{}.properties[{name}]", &path[..at.unwrap_or(path.len())]);
                let why = format!("because it is defined in {here}");
                causes.push(Cause::required(outside, &why));
            }
        }
    }
    if schema["items"].is_object() {
        match outer["items"].is_object() {
            true => nested(&schema["items"], &outer["items"], &field("items"), false, causes),
            false => {
                let why = format!("because it is defined in {path}.items");
                causes.push(Cause::required(field("items"), &why));
            }
        }
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        for (at, inner) in list(schema, &format!("/{name}")).iter().enumerate() {
            nested(inner, outer, &format!("{path}.{name}[{at}]"), may_have_type, causes);
        }
    }
    if schema["not"].is_object() {
        nested(&schema["not"], outer, &field("not"), false, causes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(schema: &Value) -> Vec<String> {
        problems(schema, "s").into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn schemas_of_real_definitions_are_structural() {
        let schema = json!({"type": "object", "properties": {
            "metadata": {"type": "object"},
            "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": "^a"},
            "any": {"x-kubernetes-preserve-unknown-fields": true},
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
            "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}},
            "one": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"properties": {"b": {"enum": ["x"]}}}], "not": {"required": ["a", "b"]}}}});
        assert_eq!(told(&schema), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_structural_is_named() {
        let schema = json!({"properties": {
            "a": {"properties": {}},
            "l": {"type": "array", "items": {}},
            "n": {"type": "object", "anyOf": [{"type": "string"}, {"properties": {"x": {"enum": [1]}}}]},
            "r": {"type": "object", "$ref": "#/x"},
            "metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}});
        let told = told(&schema).join("\n");
        for wanted in [
            "s.type: Required value: must not be empty at the root",
            "s.properties[a].type: Required value: must not be empty for specified object fields",
            "s.properties[l].items.type: Required value: must not be empty for specified array items",
            "s.properties[n].anyOf[0].type: Forbidden: must be empty to be structural",
            "s.properties[n].properties[x]: Required value: because it is defined in s.properties[n].anyOf[1].properties[x]",
            "s.properties[r].$ref: Forbidden: $ref is not supported",
            "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName",
        ] {
            assert!(told.contains(wanted), "{wanted}\n{told}");
        }
    }
}
