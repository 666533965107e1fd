//! Filling in defaults.

use serde_json::Value;

/// Fills in defaults of missing fields, in place. A null where the schema has a default and is not nullable is
/// replaced by it, as in Kubernetes.
pub fn defaults(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            for (key, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let default = inner.get("default");
                let replaces_null = default.is_some() && !super::flag(inner, "nullable");
                let missing = map.get(key).is_none_or(|value| value.is_null() && replaces_null);
                if let (true, Some(default)) = (missing, default) {
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
