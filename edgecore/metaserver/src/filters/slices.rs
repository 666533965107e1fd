//! Filters of EndpointSlices and Endpoints: which of them this node goes to, and which of its own are ready.

use apimachinery::object::text;
use kubeapi::stored::Stored;
use serde_json::{Value, json};

use super::facts::{Facts, Near, Topology, service_of};
use super::{Seen, with};

/// True if what follows cannot change the object, without parsing it.
fn is_of_interest(facts: &Facts, namespace: &str) -> bool {
    facts.services.keys().any(|(of, _)| of == namespace)
}

/// Keeps endpoints by a test of their node and zone. What is kept of a slice may be empty: traffic is then refused here
/// rather than carried elsewhere.
fn keep(object: &mut Value, is_kept: impl Fn(&str, &str) -> bool) -> bool {
    let mut is_changed = false;
    let mut sift = |list: &mut Vec<Value>| {
        let before = list.len();
        list.retain(|one| is_kept(text(one, "/nodeName"), text(one, "/zone")));
        is_changed |= list.len() != before;
    };
    if let Some(endpoints) = object.get_mut("endpoints").and_then(Value::as_array_mut) {
        sift(endpoints);
    }
    for subset in object.get_mut("subsets").and_then(Value::as_array_mut).into_iter().flatten() {
        for list in ["addresses", "notReadyAddresses"] {
            if let Some(addresses) = subset.get_mut(list).and_then(Value::as_array_mut) {
                sift(addresses);
            }
        }
    }
    is_changed
}

/// Endpoints on this node, in its pool, or nearest by `trafficDistribution`.
pub(super) fn topology(facts: &Facts, stored: &Stored) -> Seen {
    if !is_of_interest(facts, &stored.key.namespace) {
        return Seen::AsItIs;
    }
    let Some(mut object) = with(stored, "") else { return Seen::AsItIs };
    let service = (stored.key.namespace.clone(), service_of(stored, &object));
    let Some(topology) = facts.services.get(&service) else { return Seen::AsItIs };
    let here = |node: &str| node == facts.node;
    let is_changed = match topology {
        Topology::Node => keep(&mut object, |node, _| here(node)),
        Topology::Pool | Topology::Group => {
            let pool = if *topology == Topology::Pool { &facts.pool } else { &facts.group };
            match (&pool.own, &pool.members) {
                // As KubeEdge: nodes without a group are a group.
                (None, Some(members)) if *topology == Topology::Group => {
                    keep(&mut object, |node, _| members.contains(node))
                }
                (None, _) => keep(&mut object, |node, _| here(node)),
                (Some(_), Some(members)) => keep(&mut object, |node, _| members.contains(node)),
                // Who is in the pool is not known.
                (Some(_), None) => false,
            }
        }
        Topology::Near(Near::Node) => keep(&mut object, |node, _| here(node)),
        Topology::Near(Near::Zone) => {
            let own = facts.zone.as_deref().unwrap_or_default();
            keep(&mut object, |node, zone| {
                here(node) || zone == own || facts.zones.get(node).is_some_and(|zone| zone == own)
            })
        }
        Topology::Near(Near::Anywhere) => false,
    };
    if is_changed { Seen::Changed(object) } else { Seen::AsItIs }
}

/// The endpoint of the API server is MetaServer.
pub(super) fn forward(facts: &Facts, stored: &Stored) -> Seen {
    if stored.key.namespace != "default" {
        return Seen::AsItIs;
    }
    let (Some(address), Some(mut slice)) = (facts.address, with(stored, "kubernetes")) else {
        return Seen::AsItIs;
    };
    if service_of(stored, &slice) != "kubernetes" {
        return Seen::AsItIs;
    }
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    if slice["addressType"] != family {
        return Seen::AsItIs;
    }
    slice["endpoints"] =
        json!([{ "addresses": [address.ip().to_string()], "conditions": { "ready": true } }]);
    for port in slice["ports"].as_array_mut().into_iter().flatten().filter(|port| port["name"] == "https") {
        port["port"] = json!(address.port());
    }
    Seen::Changed(slice)
}

/// Endpoints of this node's pods are as ready as the node knows them to be.
pub(super) fn readiness(facts: &Facts, stored: &Stored) -> Seen {
    if facts.ready.is_empty() {
        return Seen::AsItIs;
    }
    let Some(mut object) = with(stored, &facts.node) else { return Seen::AsItIs };
    let namespace = &stored.key.namespace;
    if facts.always_ready.contains(&(namespace.clone(), service_of(stored, &object))) {
        return Seen::AsItIs;
    }
    let known = |endpoint: &Value| {
        let is_ours = text(endpoint, "/nodeName") == facts.node && text(endpoint, "/targetRef/kind") == "Pod";
        let pod = (namespace.clone(), text(endpoint, "/targetRef/name").to_owned());
        is_ours.then(|| facts.ready.get(&pod).copied()).flatten()
    };
    let mut is_changed = false;
    for endpoint in object.get_mut("endpoints").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(ready) = known(endpoint) else { continue };
        let is_ending = endpoint["conditions"]["terminating"] == true;
        let told = (ready && !is_ending, ready);
        let conditions = &endpoint["conditions"];
        // What is not said is true.
        let before = (conditions["ready"] != false, conditions["serving"] != false);
        if before != told {
            endpoint["conditions"]["ready"] = json!(told.0);
            endpoint["conditions"]["serving"] = json!(told.1);
            is_changed = true;
        }
    }
    for subset in object.get_mut("subsets").and_then(Value::as_array_mut).into_iter().flatten() {
        is_changed |= turn(subset, "addresses", "notReadyAddresses", |one| known(one) == Some(false));
        is_changed |= turn(subset, "notReadyAddresses", "addresses", |one| known(one) == Some(true));
    }
    if is_changed { Seen::Changed(object) } else { Seen::AsItIs }
}

/// Moves addresses of a subset from one list to another.
fn turn(subset: &mut Value, from: &str, to: &str, is_moved: impl Fn(&Value) -> bool) -> bool {
    let Some(list) = subset.get_mut(from).and_then(Value::as_array_mut) else { return false };
    let moved: Vec<Value> = list.extract_if(.., |one| is_moved(one)).collect();
    let is_empty = list.is_empty();
    if moved.is_empty() {
        return false;
    }
    if is_empty && let Some(subset) = subset.as_object_mut() {
        subset.remove(from);
    }
    match subset.get_mut(to).and_then(Value::as_array_mut) {
        Some(list) => list.extend(moved),
        None => subset[to] = Value::Array(moved),
    }
    true
}
