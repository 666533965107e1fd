//! Checking values against a structural schema. Patterns and CEL rules are not evaluated.

use serde_json::{Number, Value};

use super::flag;
use crate::Cause;

/// Everything that is wrong with `value`. Unknown fields are not errors (see [`super::prune`]).
pub fn validate(value: &Value, schema: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    check(value, schema, "", &mut causes);
    causes
}

fn check(value: &Value, schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    if value.is_null() && flag(schema, "nullable") {
        return;
    }
    if !type_fits(value, schema) {
        let wanted = schema.get("type").and_then(Value::as_str).unwrap_or("integer or string");
        let detail = format!("{} in body must be of type {wanted}: {:?}", named(path), type_name(value));
        causes.push(Cause::type_invalid(path, &Value::from(type_name(value)), &detail));
        return;
    }
    let allowed = schema.get("enum").and_then(Value::as_array);
    if let Some(allowed) = allowed.filter(|allowed| !allowed.contains(value)) {
        let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        causes.push(Cause::unsupported(path, value, &allowed));
    }
    match value {
        Value::Object(map) => check_map(map, schema, path, causes),
        Value::Array(list) => check_list(list, schema, path, causes),
        Value::String(text) => check_text(text, value, schema, path, causes),
        Value::Number(number) => check_number(number, value, schema, path, causes),
        _ => {}
    }
    for inner in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        check(value, inner, path, causes);
    }
}

fn named(path: &str) -> &str {
    if path.is_empty() { "value" } else { path }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn type_fits(value: &Value, schema: &Value) -> bool {
    if flag(schema, "x-kubernetes-int-or-string") {
        return value.is_string() || value.is_i64() || value.is_u64();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("number") => value.is_number(),
        // 3.0 is an integer in JSON schema.
        Some("integer") => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => true,
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn check_map(map: &serde_json::Map<String, Value>, schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    for required in
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    {
        if !map.contains_key(required) {
            causes.push(Cause::required(join(path, required), ""));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    let additional = schema.get("additionalProperties").filter(|additional| additional.is_object());
    for (key, value) in map {
        if let Some(inner) = properties.and_then(|known| known.get(key)).or(additional) {
            check(value, inner, &join(path, key), causes);
        }
    }
    count(map.len(), schema, ["minProperties", "maxProperties"], path, causes);
}

fn check_list(list: &[Value], schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    if let Some(items) = schema.get("items") {
        for (at, item) in list.iter().enumerate() {
            check(item, items, &format!("{path}[{at}]"), causes);
        }
    }
    count(list.len(), schema, ["minItems", "maxItems"], path, causes);
    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    if let Some(keys) =
        keys.filter(|_| schema.get("x-kubernetes-list-type").is_some_and(|kind| kind == "map"))
    {
        let identity = |item: &Value| -> Vec<Value> {
            keys.iter()
                .filter_map(Value::as_str)
                .map(|key| item.get(key).cloned().unwrap_or(Value::Null))
                .collect()
        };
        let mut seen = Vec::new();
        for (at, item) in list.iter().enumerate() {
            let identity = identity(item);
            if seen.contains(&identity) {
                causes.push(Cause::duplicate(format!("{path}[{at}]"), item));
            }
            seen.push(identity);
        }
    }
}

fn check_text(text: &str, value: &Value, schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    count(text.chars().count(), schema, ["minLength", "maxLength"], path, causes);
    let format = schema.get("format").and_then(Value::as_str);
    if format == Some("date-time") && text.parse::<jiff::Timestamp>().is_err() {
        let detail = format!("{} in body must be of type date-time: {value}", named(path));
        causes.push(Cause::type_invalid(path, value, &detail));
    }
}

fn check_number(number: &Number, value: &Value, schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Some(found) = number.as_f64() else { return };
    let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
    if limit("minimum")
        .is_some_and(|least| found < least || (found == least && flag(schema, "exclusiveMinimum")))
    {
        let detail =
            format!("{} in body should be greater than or equal to {}", named(path), schema["minimum"]);
        causes.push(Cause::invalid(path, value, &detail));
    }
    if limit("maximum")
        .is_some_and(|most| found > most || (found == most && flag(schema, "exclusiveMaximum")))
    {
        let detail = format!("{} in body should be less than or equal to {}", named(path), schema["maximum"]);
        causes.push(Cause::invalid(path, value, &detail));
    }
    let outside_int32 = || number.as_i64().is_none_or(|number| i32::try_from(number).is_err());
    if schema.get("format").is_some_and(|format| format == "int32") && !number.is_f64() && outside_int32() {
        causes.push(Cause::invalid(path, value, &format!("{} in body must be of type int32", named(path))));
    }
}

fn count(found: usize, schema: &Value, [least, most]: [&str; 2], path: &str, causes: &mut Vec<Cause>) {
    let limit = |key: &str| schema.get(key).and_then(Value::as_u64);
    if let Some(limit) = limit(least).filter(|limit| (found as u64) < *limit) {
        let detail = format!("{} in body should have at least {limit} ({least})", named(path));
        causes.push(Cause::invalid(path, &Value::from(found), &detail));
    }
    if let Some(limit) = limit(most).filter(|limit| found as u64 > *limit) {
        match most {
            "maxLength" => return causes.push(Cause::too_long(path, limit as usize)),
            "maxItems" => return causes.push(Cause::too_many(path, found, limit as usize)),
            _ => {}
        }
        let detail = format!("{} in body should have at most {limit} ({most})", named(path));
        causes.push(Cause::invalid(path, &Value::from(found), &detail));
    }
}
