//! Endpoints of nodes that are not heard of, and whose pods are left alone by policy, stay ready if they were (OpenYurt's webhooks of
//! endpoints and endpoint slices).

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::kinds::lines;
use apimachinery::{names, patch};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::autonomy;
use crate::kubernetes::Cluster;

/// Nodes whose pods are asked for on behalf of one question; endpoints of others stay as they are.
const NODES: usize = 64;
/// The same, at once.
const AT_ONCE: usize = 8;

/// A pod by namespace and name.
type Pod = (String, String);

/// Where the endpoints are that are not ready and of nodes that are lost: node and namespace of the pods.
pub(super) fn lost(request: &Value, is_lost: impl Fn(&str) -> bool) -> BTreeSet<(String, String)> {
    let endpoints = unready(&request["object"]);
    let lost = endpoints.into_iter().filter(|endpoint| is_lost(endpoint.node));
    lost.map(|endpoint| (endpoint.node.to_owned(), endpoint.pod.0.clone())).collect()
}

/// The pods on these nodes that were ready when they were last heard of. A node whose pods cannot be had has none.
pub(super) async fn ready_pods(
    cluster: &Cluster,
    nodes: BTreeSet<(String, String)>,
) -> BTreeMap<Pod, String> {
    let asked = nodes.into_iter().take(NODES).map(|(node, namespace)| async move {
        let path = format!("{}?fieldSelector=spec.nodeName%3D{node}", lines::Pod.path(Some(&namespace), ""));
        let pods: Value = match cluster.get(&path).await {
            Ok(pods) => pods.parse().unwrap_or_default(),
            Err(status) => {
                tracing::debug!(node, error = %status, "pods of a lost node not known, their endpoints stay as they are");
                Value::Null
            }
        };
        let pods = pods["items"].as_array().into_iter().flatten().filter(|pod| autonomy::was_ready(pod));
        let named = |pod: &Value| pod["metadata"]["name"].as_str().map(str::to_owned);
        let ready: Vec<_> =
            pods.filter_map(named).map(|name| ((namespace.clone(), name), node.clone())).collect();
        ready
    });
    let asked = futures_util::stream::iter(asked).buffer_unordered(AT_ONCE);
    asked
        .fold(BTreeMap::new(), async |mut all, ready| {
            all.extend(ready);
            all
        })
        .await
}

/// The JSON patch that makes endpoints ready again whose pod is one of `ready`, on that node. `None`: there is none. Pure.
pub(super) fn patch(request: &Value, ready: &BTreeMap<Pod, String>) -> Option<Value> {
    let before = request.get("object").filter(|object| object.is_object() && !ready.is_empty())?;
    let mut after = before.clone();
    let is_ready =
        |endpoint: &Unready<'_>| ready.get(&endpoint.pod).is_some_and(|node| node == endpoint.node);
    match before["kind"].as_str() {
        Some("EndpointSlice") => {
            for endpoint in list(&mut after, "endpoints") {
                if of_slice(endpoint).is_some_and(|unready| is_ready(&unready)) {
                    endpoint["conditions"]["ready"] = json!(true);
                    endpoint["conditions"]["serving"] = json!(true);
                }
            }
        }
        _ => list(&mut after, "subsets").for_each(|subset| mend(subset, is_ready)),
    }
    (after != *before).then(|| patch::difference(before, &after))
}

fn list<'a>(object: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    object.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Moves addresses of a subset of Endpoints.
fn mend(subset: &mut Value, is_ready: impl Fn(&Unready<'_>) -> bool) {
    let Some(addresses) = subset["notReadyAddresses"].as_array() else { return };
    let (back, left): (Vec<Value>, Vec<Value>) = addresses
        .iter()
        .cloned()
        .partition(|address| of_address(address).is_some_and(|unready| is_ready(&unready)));
    if back.is_empty() {
        return;
    }
    let mut addresses = subset["addresses"].as_array().cloned().unwrap_or_default();
    addresses.extend(back);
    subset["addresses"] = json!(addresses);
    match (left.is_empty(), subset.as_object_mut()) {
        (true, Some(fields)) => drop(fields.remove("notReadyAddresses")),
        _ => subset["notReadyAddresses"] = json!(left),
    }
}

/// An endpoint that is not ready, of a pod on a node.
struct Unready<'a> {
    node: &'a str,
    pod: Pod,
}

fn unready(object: &Value) -> Vec<Unready<'_>> {
    let list = |value: &'static str| object[value].as_array().into_iter().flatten();
    let addresses = list("subsets").flat_map(|subset| subset["notReadyAddresses"].as_array()).flatten();
    list("endpoints").filter_map(of_slice).chain(addresses.filter_map(of_address)).collect()
}

fn of_slice(endpoint: &Value) -> Option<Unready<'_>> {
    let conditions = &endpoint["conditions"];
    // A condition that is not told counts as true (discovery.k8s.io/v1, EndpointConditions).
    if conditions["ready"] != false || conditions["terminating"] == true {
        return None;
    }
    of_address(endpoint)
}

fn of_address(address: &Value) -> Option<Unready<'_>> {
    let target = &address["targetRef"];
    let (namespace, name) = (target["namespace"].as_str()?, target["name"].as_str()?);
    // The namespace becomes part of a path.
    let is_pod = target["kind"] == "Pod" && names::label(namespace).is_none();
    let pod = (namespace.to_owned(), name.to_owned());
    is_pod.then_some(Unready { node: address["nodeName"].as_str()?, pod })
}

#[cfg(test)]
mod tests {
    use apimachinery::patch::{PatchKind, apply};

    use super::*;

    fn target(name: &str, node: &str) -> Value {
        json!({"nodeName": node, "targetRef": {"kind": "Pod", "namespace": "d", "name": name}})
    }

    fn ready() -> BTreeMap<Pod, String> {
        [(("d".to_owned(), "a".to_owned()), "n1".to_owned())].into()
    }

    fn after(object: Value) -> Option<Value> {
        let request = json!({"object": object});
        let patch = patch(&request, &ready())?;
        Some(apply(PatchKind::Json, &request["object"], &patch, None).unwrap())
    }

    #[test]
    fn an_endpoint_of_a_slice_is_ready_again_unless_it_ends_or_its_pod_was_not() {
        let slice = |name: &str, node: &str, conditions: Value| {
            let mut endpoint = target(name, node);
            endpoint["addresses"] = json!(["10.0.0.1"]);
            endpoint["conditions"] = conditions;
            json!({"kind": "EndpointSlice", "endpoints": [endpoint]})
        };
        let cut = || json!({"ready": false, "serving": false, "terminating": false});
        let mended = after(slice("a", "n1", cut())).unwrap();
        let conditions = json!({"ready": true, "serving": true, "terminating": false});
        assert_eq!(mended["endpoints"][0]["conditions"], conditions);
        for stays in [
            slice("b", "n1", cut()),
            slice("a", "n2", cut()),
            slice("a", "n1", json!({"ready": false, "terminating": true})),
            slice("a", "n1", json!({"ready": true})),
            slice("a", "n1", json!({})),
        ] {
            assert_eq!(after(stays.clone()), None, "{stays}");
        }
    }

    #[test]
    fn an_address_goes_back_to_those_that_are_ready() {
        let subset = |ready: Value, unready: Value| {
            let mut subset = json!({"ports": [{"port": 80}]});
            for (name, list) in [("addresses", ready), ("notReadyAddresses", unready)] {
                if list.is_array() {
                    subset[name] = list;
                }
            }
            json!({"kind": "Endpoints", "subsets": [subset]})
        };
        let (a, b) = (target("a", "n1"), target("b", "n1"));
        assert_eq!(after(subset(json!([b]), json!([a]))), Some(subset(json!([b, a]), Value::Null)));
        assert_eq!(after(subset(Value::Null, json!([a, b]))), Some(subset(json!([a]), json!([b]))));
        assert_eq!(after(subset(json!([a]), json!([b]))), None);
        assert_eq!(after(json!({"kind": "Endpoints"})), None);
    }

    #[test]
    fn only_lost_nodes_are_asked_about() {
        let unready = |name: &str, node: &str| {
            let mut endpoint = target(name, node);
            endpoint["conditions"] = json!({"ready": false});
            endpoint
        };
        let request = json!({"object": {"kind": "EndpointSlice",
            "endpoints": [unready("a", "n1"), unready("b", "n1"), unready("c", "n2"), target("d", "n3")]}});
        let strange = json!({"object": {"endpoints": [{"nodeName": "n1", "conditions": {"ready": false},
            "targetRef": {"kind": "Pod", "namespace": "d/pods/x?", "name": "a"}}]}});
        assert!(lost(&strange, |_| true).is_empty(), "it would be another path");
        let lost = lost(&request, |node| node != "n2");
        assert_eq!(lost.into_iter().collect::<Vec<_>>(), [("n1".to_owned(), "d".to_owned())]);
    }
}
