//! ConfigMaps, Secrets, Namespaces, Services, Events, Leases and the rest.

use apimachinery::object::{integer, list, text};
use serde_json::{Value, json};

use super::{Column, age, or_none, own_name, since};

/// Name, the given columns, Age.
pub(super) fn columns(inner: &[&str]) -> Vec<Column> {
    let mut columns = vec![Column::name()];
    columns.extend(inner.iter().map(|name| Column::text(name)));
    columns.push(Column::text("Age"));
    columns
}

pub(super) fn plain(object: &Value, now: i64) -> Vec<Value> {
    vec![own_name(object), age(object, now)]
}

fn entries(object: &Value, field: &str) -> usize {
    object.get(field).and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

pub(super) fn config_map(object: &Value, now: i64) -> Vec<Value> {
    let count = entries(object, "data") + entries(object, "binaryData");
    vec![own_name(object), json!(count), age(object, now)]
}

pub(super) fn secret(object: &Value, now: i64) -> Vec<Value> {
    vec![own_name(object), json!(text(object, "/type")), json!(entries(object, "data")), age(object, now)]
}

pub(super) fn namespace(object: &Value, now: i64) -> Vec<Value> {
    vec![own_name(object), json!(text(object, "/status/phase")), age(object, now)]
}

pub(super) fn service_account(object: &Value, now: i64) -> Vec<Value> {
    vec![own_name(object), json!(list(object, "/secrets").len()), age(object, now)]
}

pub(super) fn lease(object: &Value, now: i64) -> Vec<Value> {
    vec![own_name(object), json!(text(object, "/spec/holderIdentity")), age(object, now)]
}

pub(super) fn webhooks(object: &Value, now: i64) -> Vec<Value> {
    vec![own_name(object), json!(list(object, "/webhooks").len()), age(object, now)]
}

pub(super) fn policy(object: &Value, now: i64) -> Vec<Value> {
    let param = |field: &str| text(object, &format!("/spec/paramKind/{field}"));
    let kind = match (param("apiVersion"), param("kind")) {
        (_, "") => "<unset>".to_owned(),
        (version, kind) => format!("{version}/{kind}"),
    };
    vec![own_name(object), json!(list(object, "/spec/validations").len()), json!(kind), age(object, now)]
}

pub(super) fn policy_binding(object: &Value, now: i64) -> Vec<Value> {
    let reference = match (&object["spec"]["paramRef"], text(object, "/spec/paramRef/name")) {
        (Value::Null, _) => "<unset>".to_owned(),
        (reference, "") if !reference["selector"].is_null() => "<selector>".to_owned(),
        (reference, name) => match text(reference, "/namespace") {
            "" => name.to_owned(),
            namespace => format!("{namespace}/{name}"),
        },
    };
    vec![own_name(object), json!(text(object, "/spec/policyName")), json!(reference), age(object, now)]
}

pub(super) fn definition(object: &Value, _: i64) -> Vec<Value> {
    vec![own_name(object), json!(text(object, "/metadata/creationTimestamp"))]
}

pub(super) fn service_columns() -> Vec<Column> {
    let mut columns = columns(&["Type", "Cluster-IP", "External-IP", "Port(s)"]);
    columns.push(Column::wide("Selector"));
    columns
}

pub(super) fn service(object: &Value, now: i64) -> Vec<Value> {
    let ports = list(object, "/spec/ports").iter().map(|port| {
        let (number, protocol) = (integer(port, "/port").unwrap_or(0), text(port, "/protocol"));
        match integer(port, "/nodePort") {
            Some(node) if node > 0 => format!("{number}:{node}/{protocol}"),
            _ => format!("{number}/{protocol}"),
        }
    });
    let ports: Vec<String> = ports.collect();
    let selector = object.pointer("/spec/selector").and_then(Value::as_object).into_iter().flatten();
    let selector: Vec<String> =
        selector.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    vec![
        own_name(object),
        json!(text(object, "/spec/type")),
        or_none(text(object, "/spec/clusterIP")),
        or_none(text(object, "/spec/externalName")),
        or_none(&ports.join(",")),
        age(object, now),
        or_none(&selector.join(",")),
    ]
}

pub(super) fn event_columns() -> Vec<Column> {
    let mut columns: Vec<Column> = ["Last Seen", "Type", "Reason", "Object"].map(Column::text).into();
    columns.push(Column::wide("Source"));
    columns.push(Column::text("Message"));
    columns.push(Column { priority: 1, ..Column::name() });
    columns
}

pub(super) fn event(object: &Value, now: i64) -> Vec<Value> {
    let times = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"];
    let last =
        times.iter().map(|pointer| text(object, pointer)).find(|time| !time.is_empty()).unwrap_or_default();
    let about = format!(
        "{}/{}",
        text(object, "/involvedObject/kind").to_lowercase(),
        text(object, "/involvedObject/name")
    );
    vec![
        json!(since(last, now)),
        json!(text(object, "/type")),
        json!(text(object, "/reason")),
        json!(about),
        json!(text(object, "/source/component")),
        json!(text(object, "/message").trim()),
        own_name(object),
    ]
}
