//! A pod as a backend of a Service: its address, its state, the ports it has for those of the Service.

use std::collections::BTreeMap;

use apimachinery::kinds::lines;
use apimachinery::object::{self, integer, list, text};
use serde_json::{Value, json};

use crate::api::{Key, Kind};
use crate::cache::{Cache, Change};
use crate::pods;

pub(super) const SERVICE: Kind = &lines::Service;

/// The labels that a Service selects by; `None`: it has no selector, or is a name for something outside.
pub(super) fn selector(service: &Value) -> Option<BTreeMap<String, String>> {
    let labels = service["spec"]["selector"].as_object().filter(|labels| !labels.is_empty())?;
    if text(service, "/spec/type") == "ExternalName" {
        return None;
    }
    Some(
        labels
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect(),
    )
}

fn is_selected(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The pods that a Service selects, apart from those that have ended.
pub(super) fn of(cache: &Cache, service: &Value, selector: &BTreeMap<String, String>) -> Vec<Value> {
    let all = cache.store(&lines::Pod).entries(object::namespace(service)).into_iter();
    let selected = all.filter(|(_, pod)| is_selected(selector, &pod.labels)).map(|(_, pod)| pod.value());
    selected.filter(|pod| !pods::is_finished(pod)).collect()
}

/// The Services that a change concerns.
pub(super) fn touched(cache: &Cache, change: &Change) -> Vec<Key> {
    if change.kind == SERVICE {
        return vec![change.key.clone()];
    }
    if change.kind != &lines::Pod || !matters(change) {
        return vec![];
    }
    let services = cache.store(SERVICE).entries(&change.key.namespace).into_iter();
    let concerns = |service: &Value| {
        let selector = selector(service);
        selector.is_some_and(|selector| change.states().any(|pod| is_selected(&selector, &pod.labels)))
    };
    services.filter(|(_, service)| concerns(&service.value())).map(|(key, _)| key).collect()
}

/// True unless the change is about nothing that endpoints tell.
fn matters(change: &Change) -> bool {
    let told = |pod: &Value| {
        let ips = pod["status"]["podIPs"].clone();
        let flags = (pods::is_ready(pod), pods::is_finished(pod), object::deleting(pod));
        (
            flags,
            ips,
            text(pod, "/status/podIP").to_owned(),
            pods::node(pod).to_owned(),
            pod["metadata"]["labels"].clone(),
        )
    };
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => told(&old.value()) != told(&new.value()),
        _ => true,
    }
}

/// The families of addresses that a Service has, the first one first.
pub(super) fn families(service: &Value) -> Vec<&'static str> {
    let named = list(service, "/spec/ipFamilies").iter().filter_map(Value::as_str);
    let known: Vec<&'static str> =
        named.filter_map(|name| ["IPv4", "IPv6"].into_iter().find(|known| *known == name)).collect();
    if known.is_empty() { vec!["IPv4"] } else { known }
}

/// The address of a pod in a family.
pub(super) fn address<'a>(pod: &'a Value, family: &str) -> Option<&'a str> {
    let all = list(pod, "/status/podIPs").iter().map(|entry| text(entry, "/ip"));
    let mut all = all.chain([text(pod, "/status/podIP")]).filter(|ip| !ip.is_empty());
    all.find(|ip| ip.contains(':') == (family == "IPv6"))
}

/// The ports of a pod behind those of the Service, as endpoints have them.
pub(super) fn ports(service: &Value, pod: &Value) -> Vec<Value> {
    let read = |port: &Value| {
        let protocol = match text(port, "/protocol") {
            "" => "TCP",
            protocol => protocol,
        };
        let number = match &port["targetPort"] {
            Value::String(name) => named(pod, name, protocol)?,
            other => other.as_i64().filter(|port| *port > 0).or(integer(port, "/port"))?,
        };
        let mut out = json!({"name": text(port, "/name"), "port": number, "protocol": protocol});
        if let Some(application) = port.get("appProtocol") {
            out["appProtocol"] = application.clone();
        }
        Some(out)
    };
    list(service, "/spec/ports").iter().filter_map(read).collect()
}

/// The port of a container that has this name.
fn named(pod: &Value, name: &str, protocol: &str) -> Option<i64> {
    let sidecars = list(pod, "/spec/initContainers").iter().filter(|one| one["restartPolicy"] == "Always");
    let containers = list(pod, "/spec/containers").iter().chain(sidecars);
    let mut ports = containers.flat_map(|container| list(container, "/ports"));
    let is_it = |port: &&Value| {
        let own = text(port, "/protocol");
        text(port, "/name") == name && (own == protocol || own.is_empty() && protocol == "TCP")
    };
    integer(ports.find(is_it)?, "/containerPort")
}

pub(super) fn is_headless(service: &Value) -> bool {
    text(service, "/spec/clusterIP") == "None"
}

/// The pod as endpoints refer to it.
pub(super) fn reference(pod: &Value) -> Value {
    json!({"kind": "Pod", "namespace": object::namespace(pod), "name": object::name(pod), "uid": object::uid(pod)})
}

/// The name of a pod under a headless Service of its subdomain.
pub(super) fn hostname<'a>(service: &Value, pod: &'a Value) -> Option<&'a str> {
    let name = text(pod, "/spec/hostname");
    (!name.is_empty() && text(pod, "/spec/subdomain") == object::name(service)).then_some(name)
}
