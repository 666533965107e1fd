//! What is wrong with what an applier sends (`typed/validate.go` upstream).

use serde_json::Value;

use super::schema::{Atom, NoElement};
use super::{Element, Schema};
use crate::decode;

/// What is wrong, with its path. Of a map the first problem is told, as in Kubernetes.
pub(super) fn problems(value: &Value, schema: Schema<'_>) -> Vec<String> {
    let mut found = Vec::new();
    check(value, schema, &mut String::new(), &mut found);
    found
}

fn check(value: &Value, schema: Schema<'_>, path: &mut String, found: &mut Vec<String>) {
    let mut expected = |what: &str| {
        // Go prints the types of its own beside them.
        let got = match value {
            Value::Object(_) | Value::Array(_) => format!("&{{{}}}", decode::in_go(value)),
            scalar => format!("&value.valueUnstructured{{Value:{scalar}}}"),
        };
        found.push(format!("{path}: expected {what}, got {got}"));
    };
    if value.is_null() {
        return;
    }
    match (schema.atom(value), value) {
        (Atom::Map { .. }, Value::Object(map)) => {
            for (key, value) in map {
                let before = path.len();
                path.push_str(&Element::Field(key.clone()).to_string());
                match schema.field(key) {
                    Some(inner) => check(value, inner, path, found),
                    None => found.push(format!("{path}: field not declared in schema")),
                }
                path.truncate(before);
                if !found.is_empty() {
                    return;
                }
            }
        }
        (Atom::Items, Value::Array(list)) => {
            let mut seen: Vec<Element> = Vec::new();
            for (at, item) in list.iter().enumerate() {
                match schema.element_of(item) {
                    Err(why) => found.push(format!("{path}: element {at}: {}", reason(why, schema))),
                    Ok(element) if seen.contains(&element) => {
                        found.push(format!("{path}: duplicate entries for key {element}"));
                    }
                    Ok(element) => {
                        let before = path.len();
                        path.push_str(&element.to_string());
                        check(item, schema.item(), path, found);
                        path.truncate(before);
                        seen.push(element);
                    }
                }
            }
        }
        (Atom::Whole, Value::Array(list)) => {
            for (at, item) in list.iter().enumerate() {
                let before = path.len();
                path.push_str(&format!("[{at}]"));
                check(item, schema.item(), path, found);
                path.truncate(before);
            }
        }
        (Atom::Map { .. }, _) => expected("map"),
        (Atom::Items | Atom::Whole, _) => expected("list"),
        (Atom::Scalar, value) => match schema.scalar() {
            Some("string") if !value.is_string() => expected("string"),
            Some("boolean") if !value.is_boolean() => expected("boolean"),
            Some("numeric") if !value.is_number() => expected("numeric (int or float)"),
            _ => {}
        },
    }
}

fn reason(why: NoElement, schema: Schema<'_>) -> String {
    match why {
        NoElement::NotAMap => "associative list with keys may not have non-map elements".to_owned(),
        NoElement::NoScalar => "associative list without keys has an element that is no scalar".to_owned(),
        NoElement::NoKeys => format!(
            "associative list with keys has an element that omits all key fields {:?} (and doesn't have default values for any \
             key fields)",
            schema.key_names()
        ),
    }
}
