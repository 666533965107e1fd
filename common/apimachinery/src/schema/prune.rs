//! Removing fields that the schema does not know.

use serde_json::Value;

use super::flag;

/// Removes unknown fields, in place. Returns their dotted paths.
pub fn prune(value: &mut Value, schema: &Value) -> Vec<String> {
    let mut dropped = Vec::new();
    walk(value, schema, &mut String::new(), &mut dropped, true);
    dropped
}

/// At the root and in embedded resources, type and metadata are always known.
fn is_envelope(key: &str, embedded: bool) -> bool {
    embedded && matches!(key, "apiVersion" | "kind" | "metadata")
}

fn walk(value: &mut Value, schema: &Value, path: &mut String, dropped: &mut Vec<String>, root: bool) {
    let preserve = flag(schema, "x-kubernetes-preserve-unknown-fields");
    let embedded = root || flag(schema, "x-kubernetes-embedded-resource");
    match value {
        Value::Object(map) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let additional = schema.get("additionalProperties");
            map.retain(|key, value| {
                let before = path.len();
                if before > 0 {
                    path.push('.');
                }
                path.push_str(key);
                let known = match (properties.and_then(|known| known.get(key)), additional) {
                    _ if is_envelope(key, embedded) => true,
                    (Some(inner), _) => {
                        walk(value, inner, path, dropped, false);
                        true
                    }
                    (None, Some(inner @ Value::Object(_))) => {
                        walk(value, inner, path, dropped, false);
                        true
                    }
                    // What is in it is not known.
                    (None, Some(Value::Bool(true))) => {
                        walk(value, &Value::Null, path, dropped, false);
                        true
                    }
                    _ => preserve,
                };
                if !known {
                    dropped.push(path.clone());
                }
                path.truncate(before);
                known
            });
        }
        Value::Array(list) => {
            let items = schema.get("items").unwrap_or(&Value::Null);
            if items.is_null() && preserve {
                return;
            }
            for (at, item) in list.iter_mut().enumerate() {
                let before = path.len();
                path.push_str(&format!("[{at}]"));
                walk(item, items, path, dropped, false);
                path.truncate(before);
            }
        }
        _ => {}
    }
}
