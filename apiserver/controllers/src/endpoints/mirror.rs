//! EndpointSlices of Endpoints that somebody else than a controller keeps, for a Service without a selector
//! (`pkg/controller/endpointslicemirroring`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use apimachinery::Status;
use apimachinery::kinds::lines;
use apimachinery::object::{self, list, text};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::backend::{self, SERVICE};
use super::slices::{MANAGED_BY, Plan, SERVICE_NAME};
use crate::api::{Key, Kind};
use crate::cache::{Cache, Change};
use crate::ownership;
use crate::shell::{Again, Controller, Work};

const KIND: Kind = &lines::Endpoints;
const SLICE: Kind = &lines::EndpointSlice;
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that are about the Endpoints themselves.
const OWN: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];
/// `--mirroring-max-endpoints-per-subset`.
const MOST: usize = 1000;

/// True for Endpoints that want to be mirrored.
fn is_mirrored(endpoints: &Value) -> bool {
    let metadata = &endpoints["metadata"];
    metadata["labels"][SKIP] != "true" && metadata["annotations"].get(LEADER).is_none()
}

/// Family and ports, as text.
type Group = (&'static str, String);
/// Ports, and the endpoints that have them.
type Ported = (Vec<Value>, Vec<Value>);

/// `existing` are the slices that this controller made of these Endpoints.
fn plan(endpoints: &Value, existing: Vec<Value>) -> Plan {
    let mut wanted: BTreeMap<Group, Ported> = BTreeMap::new();
    for subset in list(endpoints, "/subsets") {
        let ports: Vec<Value> = list(subset, "/ports").iter().map(port).collect();
        let states = [("/addresses", true), ("/notReadyAddresses", false)];
        let all = states
            .into_iter()
            .flat_map(|(field, ready)| list(subset, field).iter().map(move |one| (one, ready)));
        for (address, ready) in all.take(MOST) {
            let Some((family, endpoint)) = endpoint(address, ready) else { continue };
            let entry = wanted.entry((family, json!(ports).to_string()));
            entry.or_insert_with(|| (ports.clone(), vec![])).1.push(endpoint);
        }
    }
    let mut plan = Plan::default();
    let mut existing = existing;
    for ((family, _), (ports, inside)) in wanted {
        let fits = |slice: &Value| text(slice, "/addressType") == family && slice["ports"] == json!(ports);
        let mut slice = slice(endpoints, family, &ports, &inside);
        let Some(at) = existing.iter().position(fits) else {
            plan.create.push(slice);
            continue;
        };
        let found = existing.swap_remove(at);
        let mut changed = found.clone();
        changed["endpoints"] = slice["endpoints"].take();
        for field in ["labels", "annotations"] {
            match slice["metadata"][field].take() {
                Value::Null => drop(object::metadata(&mut changed).remove(field)),
                told => changed["metadata"][field] = told,
            }
        }
        if changed != found {
            plan.update.push(changed);
        }
    }
    plan.delete = existing;
    plan
}

fn port(port: &Value) -> Value {
    let mut port = port.clone();
    object::set_default(object::as_map(&mut port), "name", "");
    port
}

/// The family of an address, and what a slice says of it.
fn endpoint(address: &Value, ready: bool) -> Option<(&'static str, Value)> {
    let ip: IpAddr = text(address, "/ip").parse().ok()?;
    let mut endpoint = json!({"addresses": [ip.to_string()], "conditions": {"ready": ready}});
    for field in ["hostname", "nodeName", "targetRef"] {
        if let Some(value) = address.get(field).filter(|value| !value.is_null()) {
            endpoint[field] = value.clone();
        }
    }
    Some((if ip.is_ipv4() { "IPv4" } else { "IPv6" }, endpoint))
}

fn slice(endpoints: &Value, family: &str, ports: &[Value], inside: &[Value]) -> Value {
    let of = |field: &str| endpoints["metadata"][field].as_object().cloned().unwrap_or_default();
    let mut labels = of("labels");
    labels.insert(SERVICE_NAME.to_owned(), json!(object::name(endpoints)));
    labels.insert(MANAGED_BY.to_owned(), json!(MANAGER));
    let annotations: Map<String, Value> =
        of("annotations").into_iter().filter(|(name, _)| !OWN.contains(&name.as_str())).collect();
    let mut slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "generateName": format!("{}-", object::name(endpoints)), "namespace": object::namespace(endpoints),
            "labels": labels, "ownerReferences": [ownership::reference(KIND, endpoints)],
        },
        "addressType": family, "ports": ports, "endpoints": inside,
    });
    if !annotations.is_empty() {
        slice["metadata"]["annotations"] = Value::Object(annotations);
    }
    slice
}

/// The controller.
pub struct Mirrors;

impl Controller for Mirrors {
    fn name(&self) -> &'static str {
        "endpointslice-mirroring-controller"
    }

    fn user(&self) -> &'static str {
        "system:serviceaccount:kube-system:endpointslicemirroring-controller"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![KIND, SERVICE, SLICE]
    }

    fn touched(&self, _: &Cache, change: &Change) -> Vec<Key> {
        if change.kind == SLICE {
            let named = change.states().filter_map(|slice| slice.labels.get(SERVICE_NAME).cloned());
            return named.map(|name| Key::new(&change.key.namespace, &name)).take(1).collect();
        }
        if change.kind == KIND || change.kind == SERVICE { vec![change.key.clone()] } else { vec![] }
    }

    fn reconcile<'a>(&'a self, work: &'a Work, key: &'a Key) -> BoxFuture<'a, Result<Again, Status>> {
        async move {
            let own = work.cache.store(SLICE).entries(&key.namespace).into_iter().filter(|(_, slice)| {
                slice.labels.get(SERVICE_NAME) == Some(&key.name)
                    && slice.labels.get(MANAGED_BY).is_some_and(|manager| manager == MANAGER)
            });
            let own: Vec<Value> = own.map(|(_, slice)| slice.value()).collect();
            let service =
                work.cache.store(SERVICE).get(key).filter(|service| backend::selector(service).is_none());
            let endpoints = work.cache.store(KIND).get(key).filter(is_mirrored);
            let endpoints = endpoints.filter(|found| service.is_some() && !object::deleting(found));
            let plan = match endpoints {
                Some(endpoints) => plan(&endpoints, own),
                None => Plan { delete: own, ..Plan::default() },
            };
            plan.carry_out(work).await.map(|()| None)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(subsets: Value) -> Value {
        json!({"metadata": {"name": "m", "namespace": "n", "uid": "u", "labels": {"x": "y"}}, "subsets": subsets})
    }

    #[test]
    fn each_set_of_ports_and_each_family_has_its_slice() {
        let ports = json!([{"port": 80, "protocol": "TCP"}]);
        let found = endpoints(json!([
            {"addresses": [{"ip": "10.1.2.3", "hostname": "h"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.1.2.5"}], "ports": ports},
            {"addresses": [{"ip": "10.1.2.3"}], "ports": [{"name": "b", "port": 81, "protocol": "TCP"}]}]));
        let first = plan(&found, vec![]);
        let told: Vec<(&str, usize)> = first
            .create
            .iter()
            .map(|slice| (text(slice, "/addressType"), list(slice, "/endpoints").len()))
            .collect();
        assert_eq!(told, [("IPv4", 2), ("IPv4", 1), ("IPv6", 1)]);
        let ready = json!({"addresses": ["10.1.2.3"], "conditions": {"ready": true}, "hostname": "h"});
        assert_eq!(first.create[0]["endpoints"][0], ready);
        assert_eq!(first.create[0]["ports"], json!([{"name": "", "port": 80, "protocol": "TCP"}]));
        assert_eq!(plan(&found, first.create.clone()), Plan::default());
        let less = endpoints(json!([{"addresses": [{"ip": "10.9.9.9"}], "ports": ports}]));
        let second = plan(&less, first.create);
        assert_eq!((second.create.len(), second.update.len(), second.delete.len()), (0, 1, 2));
    }

    #[test]
    fn endpoints_of_leaders_and_those_that_ask_for_it_are_not_mirrored() {
        assert!(is_mirrored(&endpoints(Value::Null)));
        assert!(!is_mirrored(&json!({"metadata": {"labels": {SKIP: "true"}}})));
        assert!(!is_mirrored(&json!({"metadata": {"annotations": {LEADER: "{}"}}})));
    }
}
