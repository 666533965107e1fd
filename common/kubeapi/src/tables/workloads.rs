//! Deployments and the like.

use apimachinery::object::integer;
use serde_json::{Value, json};

use super::{Column, age, own_name};

pub(super) fn columns(inner: &[&str]) -> Vec<Column> {
    super::cluster::columns(inner)
}

fn count(object: &Value, field: &str) -> i64 {
    integer(object, &format!("/{field}")).unwrap_or(0)
}

fn ready(object: &Value) -> Value {
    let wanted = integer(object, "/spec/replicas").unwrap_or(1);
    json!(format!("{}/{wanted}", count(object, "status/readyReplicas")))
}

pub(super) fn deployment(object: &Value, now: i64) -> Vec<Value> {
    let (updated, available) =
        (count(object, "status/updatedReplicas"), count(object, "status/availableReplicas"));
    vec![own_name(object), ready(object), json!(updated), json!(available), age(object, now)]
}

pub(super) fn replica_set(object: &Value, now: i64) -> Vec<Value> {
    let wanted = integer(object, "/spec/replicas").unwrap_or(1);
    let (current, ready) = (count(object, "status/replicas"), count(object, "status/readyReplicas"));
    vec![own_name(object), json!(wanted), json!(current), json!(ready), age(object, now)]
}

pub(super) fn stateful_set(object: &Value, now: i64) -> Vec<Value> {
    vec![own_name(object), ready(object), age(object, now)]
}

pub(super) fn daemon_set(object: &Value, now: i64) -> Vec<Value> {
    let counts = [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    ];
    let mut cells = vec![own_name(object)];
    cells.extend(counts.iter().map(|field| json!(count(object, &format!("status/{field}")))));
    cells.push(age(object, now));
    cells
}
