//! Deployments and the like.

use apimachinery::object::integer;
use serde_json::{Value, json};

use super::parts::{containers, labels, selector, wide};
use super::{Column, age, own_name};

/// Where the pods of these kinds have their spec.
const TEMPLATE: &str = "/spec/template/spec";

/// Name, the given columns, Age; for `-o wide` containers, images and, if there is one, the selector.
pub(super) fn columns(inner: &[&str]) -> Vec<Column> {
    let mut columns = super::cluster::columns(inner);
    columns.extend(wide(&["Containers", "Images", "Selector"]));
    columns
}

fn count(object: &Value, field: &str) -> i64 {
    integer(object, &format!("/{field}")).unwrap_or(0)
}

fn ready(object: &Value) -> Value {
    let wanted = integer(object, "/spec/replicas").unwrap_or(1);
    json!(format!("{}/{wanted}", count(object, "status/readyReplicas")))
}

/// Appends what is shown by `-o wide`.
fn with_pods(mut cells: Vec<Value>, object: &Value, selector: Value) -> Vec<Value> {
    cells.extend(containers(object, TEMPLATE));
    cells.push(selector);
    cells
}

pub(super) fn deployment(object: &Value, now: i64) -> Vec<Value> {
    let (updated, available) =
        (count(object, "status/updatedReplicas"), count(object, "status/availableReplicas"));
    let cells = vec![own_name(object), ready(object), json!(updated), json!(available), age(object, now)];
    with_pods(cells, object, selector(object, "/spec/selector"))
}

fn replicas(object: &Value, now: i64) -> Vec<Value> {
    let wanted = integer(object, "/spec/replicas").unwrap_or(1);
    let (current, ready) = (count(object, "status/replicas"), count(object, "status/readyReplicas"));
    vec![own_name(object), json!(wanted), json!(current), json!(ready), age(object, now)]
}

pub(super) fn replica_set(object: &Value, now: i64) -> Vec<Value> {
    with_pods(replicas(object, now), object, selector(object, "/spec/selector"))
}

pub(super) fn replication_controller(object: &Value, now: i64) -> Vec<Value> {
    with_pods(replicas(object, now), object, labels(object, "/spec/selector"))
}

pub(super) fn stateful_set_columns() -> Vec<Column> {
    let mut columns = super::cluster::columns(&["Ready"]);
    columns.extend(wide(&["Containers", "Images"]));
    columns
}

pub(super) fn stateful_set(object: &Value, now: i64) -> Vec<Value> {
    let mut cells = vec![own_name(object), ready(object), age(object, now)];
    cells.extend(containers(object, TEMPLATE));
    cells
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
    cells.push(labels(object, "/spec/template/spec/nodeSelector"));
    cells.push(age(object, now));
    with_pods(cells, object, selector(object, "/spec/selector"))
}

pub(super) fn pod_template_columns() -> Vec<Column> {
    let mut columns = vec![Column::name()];
    columns.extend(["Containers", "Images", "Pod Labels"].map(Column::text));
    columns
}

pub(super) fn pod_template(object: &Value, _: i64) -> Vec<Value> {
    let [names, images] = containers(object, "/template/spec");
    vec![own_name(object), names, images, labels(object, "/template/metadata/labels")]
}
