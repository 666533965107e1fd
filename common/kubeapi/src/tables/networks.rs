//! Ingresses and their classes, and network policies.

use apimachinery::object::{list, text};
use serde_json::{Value, json};

use super::parts::selector;
use super::{age, or_none, own_name};

pub(super) fn policy(object: &Value, now: i64) -> Vec<Value> {
    vec![own_name(object), selector(object, "/spec/podSelector"), age(object, now)]
}

pub(super) fn ingress(object: &Value, now: i64) -> Vec<Value> {
    let hosts: Vec<&str> = list(object, "/spec/rules")
        .iter()
        .map(|rule| text(rule, "/host"))
        .filter(|host| !host.is_empty())
        .collect();
    let hosts = match hosts.len() {
        0 => "*".to_owned(),
        1..=3 => hosts.join(","),
        more => format!("{} + {} more...", hosts[..3].join(","), more - 3),
    };
    let addresses = list(object, "/status/loadBalancer/ingress").iter().map(|one| match text(one, "/ip") {
        "" => text(one, "/hostname"),
        ip => ip,
    });
    let addresses: Vec<&str> = addresses.filter(|address| !address.is_empty()).collect();
    let ports = if list(object, "/spec/tls").is_empty() { "80" } else { "80, 443" };
    vec![
        own_name(object),
        or_none(text(object, "/spec/ingressClassName")),
        json!(hosts),
        json!(addresses.join(",")),
        json!(ports),
        age(object, now),
    ]
}

pub(super) fn ingress_class(object: &Value, now: i64) -> Vec<Value> {
    let parameters = &object["spec"]["parameters"];
    let parameters = match (text(parameters, "/kind"), text(parameters, "/apiGroup")) {
        ("", _) => "<none>".to_owned(),
        (kind, "") => format!("{kind}/{}", text(parameters, "/name")),
        (kind, group) => format!("{kind}.{group}/{}", text(parameters, "/name")),
    };
    vec![own_name(object), json!(text(object, "/spec/controller")), json!(parameters), age(object, now)]
}

pub(super) fn service_range(object: &Value, now: i64) -> Vec<Value> {
    let ranges: Vec<&str> = list(object, "/spec/cidrs").iter().filter_map(Value::as_str).collect();
    vec![own_name(object), json!(ranges.join(",")), age(object, now)]
}

/// What an address belongs to, as `RESOURCE.GROUP/NAMESPACE/NAME`.
pub(super) fn address(object: &Value, _: i64) -> Vec<Value> {
    let parent = |field: &str| text(object, &format!("/spec/parentRef/{field}"));
    let mut told = parent("resource").to_lowercase();
    if !parent("group").is_empty() {
        told = format!("{told}.{}", parent("group"));
    }
    for part in [parent("namespace"), parent("name")].into_iter().filter(|part| !part.is_empty()) {
        told = format!("{told}/{part}");
    }
    vec![own_name(object), or_none(&told)]
}
