//! Taking fields out of an object (`typed/remove.go` upstream).

use serde_json::{Value, json};

use super::schema::Atom;
use super::{Element, Schema, Set};

/// `value` without what is in the set; `None` for a map or list of which nothing is left.
pub(super) fn remove(value: &Value, gone: &Set, schema: Schema<'_>) -> Option<Value> {
    if gone.is_empty() {
        return Some(value.clone());
    }
    match (schema.atom(value), value) {
        (Atom::Map { is_atomic: false }, Value::Object(map)) => {
            let kept = map.iter().filter_map(|(key, value)| {
                let schema = schema.field(key).unwrap_or(Schema::ANY);
                left(value, gone, &Element::Field(key.clone()), schema).map(|value| (key.clone(), value))
            });
            let kept: serde_json::Map<String, Value> = kept.collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        (Atom::Items, Value::Array(list)) => {
            let kept = list.iter().filter_map(|item| match schema.element_of(item) {
                Ok(element) => left(item, gone, &element, schema.item()),
                Err(_) => Some(item.clone()),
            });
            let kept: Vec<Value> = kept.collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        (Atom::Scalar, _) => Some(value.clone()),
        _ => None,
    }
}

fn left(value: &Value, gone: &Set, element: &Element, schema: Schema<'_>) -> Option<Value> {
    match gone.node(element) {
        None => Some(value.clone()),
        Some(node) if node.is_member => None,
        Some(node) => match remove(value, &node.below, schema) {
            // It is not to go itself, and stays if only as an empty one.
            None if value.is_object() => Some(json!({})),
            left => left,
        },
    }
}
