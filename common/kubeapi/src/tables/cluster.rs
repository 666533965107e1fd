//! ConfigMaps, Secrets, Namespaces, Services, Events, Leases and the rest.

use apimachinery::object::{integer, list, text};
use serde_json::{Value, json};

use super::parts::labels;
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
    let rules = ["/spec/validations", "/spec/mutations"].map(|field| list(object, field).len());
    vec![own_name(object), json!(rules.iter().sum::<usize>()), json!(kind), age(object, now)]
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

pub(super) fn api_service(object: &Value, now: i64) -> Vec<Value> {
    let service = match &object["spec"]["service"] {
        Value::Null => "Local".to_owned(),
        service => format!("{}/{}", text(service, "/namespace"), text(service, "/name")),
    };
    let mut conditions = list(object, "/status/conditions").iter();
    let available = match conditions.find(|one| one["type"] == "Available") {
        None => "Unknown".to_owned(),
        Some(one) => match (text(one, "/status"), text(one, "/reason")) {
            (status @ "True", _) | (status, "") => status.to_owned(),
            (status, reason) => format!("{status} ({reason})"),
        },
    };
    vec![own_name(object), json!(service), json!(available), age(object, now)]
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
    vec![
        own_name(object),
        json!(text(object, "/spec/type")),
        or_none(text(object, "/spec/clusterIP")),
        or_none(text(object, "/spec/externalName")),
        or_none(&ports.join(",")),
        age(object, now),
        labels(object, "/spec/selector"),
    ]
}

pub(super) fn event_columns() -> Vec<Column> {
    let mut columns: Vec<Column> = ["Last Seen", "Type", "Reason", "Object"].map(Column::text).into();
    columns.extend(["Subobject", "Source"].map(Column::wide));
    columns.push(Column::text("Message"));
    columns.extend(["First Seen", "Count"].map(Column::wide));
    columns.push(Column { priority: 1, ..Column::name() });
    columns
}

pub(super) fn event(object: &Value, now: i64) -> Vec<Value> {
    let first = |pointers: &[&str]| {
        let times = pointers.iter().map(|pointer| text(object, pointer));
        since(times.into_iter().find(|time| !time.is_empty()).unwrap_or_default(), now)
    };
    let last = first(&["/series/lastObservedTime", "/lastTimestamp", "/eventTime"]);
    let began = first(&["/firstTimestamp", "/eventTime"]);
    let about = match text(object, "/involvedObject/kind").to_lowercase() {
        kind if kind.is_empty() => text(object, "/involvedObject/name").to_owned(),
        kind => format!("{kind}/{}", text(object, "/involvedObject/name")),
    };
    let either = |one: &str, other: &str| match text(object, one) {
        "" => text(object, other).to_owned(),
        given => given.to_owned(),
    };
    let component = either("/source/component", "/reportingComponent");
    let host = either("/source/host", "/reportingInstance");
    let source = if host.is_empty() { component } else { format!("{component}, {host}") };
    let count = integer(object, "/series/count").or_else(|| integer(object, "/count")).unwrap_or(0).max(1);
    vec![
        json!(last),
        json!(text(object, "/type")),
        json!(text(object, "/reason")),
        json!(about),
        json!(text(object, "/involvedObject/fieldPath")),
        json!(source),
        json!(text(object, "/message").trim()),
        json!(began),
        json!(count),
        own_name(object),
    ]
}
