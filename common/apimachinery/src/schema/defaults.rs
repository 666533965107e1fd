//! Filling in defaults.

use serde_json::Value;

/// True if something in the schema has a default.
pub fn has_defaults(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => {
            let under = |key: &str| map.get(key).is_some_and(has_defaults);
            let properties = map.get("properties").and_then(Value::as_object);
            map.contains_key("default")
                || under("items")
                || under("additionalProperties")
                || properties.is_some_and(|all| all.values().any(has_defaults))
        }
        _ => false,
    }
}

/// Fills in defaults of missing fields, in place. A null where the schema is not nullable counts as
/// missing, as in Kubernetes.
pub fn defaults(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            for (key, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                if map.get(key).is_some_and(Value::is_null) && !super::flag(inner, "nullable") {
                    map.remove(key);
                }
                if let (false, Some(default)) = (map.contains_key(key), inner.get("default")) {
                    map.insert(key.clone(), default.clone());
                }
                if let Some(value) = map.get_mut(key) {
                    defaults(value, inner);
                }
            }
            if let Some(inner @ Value::Object(_)) = schema.get("additionalProperties") {
                map.values_mut().for_each(|value| defaults(value, inner));
            }
        }
        Value::Array(list) => {
            if let Some(items) = schema.get("items") {
                list.iter_mut().for_each(|item| defaults(item, items));
            }
        }
        _ => {}
    }
}
