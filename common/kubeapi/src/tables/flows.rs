//! Flow schemas and priority levels.

use apimachinery::object::{at, list, text};
use serde_json::{Value, json};

use super::cluster::columns;
use super::{Column, age, or_none, own_name};

pub(super) fn schema_columns() -> Vec<Column> {
    let mut all = columns(&["PriorityLevel", "MatchingPrecedence", "DistinguisherMethod"]);
    all.push(Column::text("MissingPL"));
    all
}

pub(super) fn schema(object: &Value, now: i64) -> Vec<Value> {
    let dangling =
        list(object, "/status/conditions").iter().find(|condition| condition["type"] == "Dangling");
    vec![
        own_name(object),
        json!(text(object, "/spec/priorityLevelConfiguration/name")),
        object["spec"]["matchingPrecedence"].clone(),
        or_none(text(object, "/spec/distinguisherMethod/type")),
        age(object, now),
        json!(dangling.map_or("?", |condition| text(condition, "/status"))),
    ]
}

pub(super) fn level_columns() -> Vec<Column> {
    columns(&["Type", "NominalConcurrencyShares", "Queues", "HandSize", "QueueLengthLimit"])
}

pub(super) fn level(object: &Value, now: i64) -> Vec<Value> {
    let number = |pointer: &str| at(object, pointer).cloned().unwrap_or_else(|| json!("<none>"));
    let queuing = |field: &str| number(&format!("/spec/limited/limitResponse/queuing/{field}"));
    vec![
        own_name(object),
        json!(text(object, "/spec/type")),
        number("/spec/limited/nominalConcurrencyShares"),
        queuing("queues"),
        queuing("handSize"),
        queuing("queueLengthLimit"),
        age(object, now),
    ]
}
