//! Cells that several kinds have.

use apimachinery::object::{at, list, text};
use serde_json::{Map, Value, json};

use super::{Column, or_none};

/// Shown by `-o wide` for what makes pods: the names of the containers, their images, and the selector.
pub(super) fn wide(names: &[&str]) -> Vec<Column> {
    names.iter().map(|name| Column::wide(name)).collect()
}

/// Names and images of the containers of the pod at `spec`.
pub(super) fn containers(object: &Value, spec: &str) -> [Value; 2] {
    let all = list(object, &format!("{spec}/containers"));
    ["/name", "/image"].map(|field| {
        let words: Vec<&str> = all.iter().map(|container| text(container, field)).collect();
        json!(words.join(","))
    })
}

/// `a=b,c=d`, as `labels.FormatLabels` writes a map.
pub(super) fn labels(object: &Value, pointer: &str) -> Value {
    let map = at(object, pointer).and_then(Value::as_object);
    or_none(&pairs(map).join(","))
}

fn pairs(map: Option<&Map<String, Value>>) -> Vec<String> {
    let map = map.into_iter().flatten();
    map.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect()
}

/// `a=b,c in (d,e),!f`, as `metav1.FormatLabelSelector` writes a selector.
pub(super) fn selector(object: &Value, pointer: &str) -> Value {
    let Some(selector) = at(object, pointer).filter(|selector| !selector.is_null()) else {
        return json!("<none>");
    };
    // In the order of their keys.
    let mut tests: Vec<(&str, String)> = Vec::new();
    for (key, value) in at(selector, "/matchLabels").and_then(Value::as_object).into_iter().flatten() {
        tests.push((key, format!("{key}={}", value.as_str().unwrap_or_default())));
    }
    for expression in list(selector, "/matchExpressions") {
        let key = text(expression, "/key");
        let mut values: Vec<&str> = list(expression, "/values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let test = match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        tests.push((key, test));
    }
    tests.sort();
    let tests: Vec<String> = tests.into_iter().map(|(_, test)| test).collect();
    or_none(&tests.join(","))
}

/// The time of creation, as it is written.
pub(super) fn created(object: &Value) -> Value {
    json!(text(object, "/metadata/creationTimestamp"))
}
