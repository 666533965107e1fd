//! Claims of devices, and what drivers offer.

use apimachinery::object::{list, text};
use serde_json::{Value, json};

use super::{age, own_name};

pub(super) fn claim(object: &Value, now: i64) -> Vec<Value> {
    let is_deleted = !object["metadata"]["deletionTimestamp"].is_null();
    let is_allocated = !object["status"]["allocation"].is_null();
    let states = [
        (is_deleted, "deleted"),
        (!is_allocated && !is_deleted, "pending"),
        (is_allocated, "allocated"),
        (is_allocated && !list(object, "/status/reservedFor").is_empty(), "reserved"),
    ];
    let states: Vec<&str> = states.into_iter().filter(|(is, _)| *is).map(|(_, state)| state).collect();
    vec![own_name(object), json!(states.join(",")), age(object, now)]
}

pub(super) fn slice(object: &Value, now: i64) -> Vec<Value> {
    let field = |path: &str| json!(text(object, path));
    vec![
        own_name(object),
        field("/spec/nodeName"),
        field("/spec/driver"),
        field("/spec/pool/name"),
        age(object, now),
    ]
}
