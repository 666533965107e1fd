//! EndpointSlices: at most 100 endpoints each, all with the same ports. An endpoint stays in the slice that it is in.

use std::collections::BTreeMap;

use apimachinery::Status;
use apimachinery::kinds::lines;
use apimachinery::object::{self, list, text};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::backend::{self, SERVICE, address, families, hostname, is_headless, reference};
use crate::api::{Key, Kind};
use crate::cache::{Cache, Change};
use crate::ownership;
use crate::pods;
use crate::shell::{Again, Controller, Work};

const KIND: Kind = &lines::EndpointSlice;
const MANAGER: &str = "endpointslice-controller.k8s.io";
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";
/// `--max-endpoints-per-slice`.
const MOST: usize = 100;

/// What is to be done for a Service.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub create: Vec<Value>,
    pub update: Vec<Value>,
    pub delete: Vec<Value>,
}

impl Plan {
    pub(super) async fn carry_out(&self, work: &Work) -> Result<(), Status> {
        for slice in &self.create {
            work.client.create(KIND, slice).await?;
        }
        for slice in &self.update {
            work.client.update(KIND, slice).await?;
        }
        for slice in &self.delete {
            work.client.delete(KIND, slice).await?;
        }
        Ok(())
    }
}

/// An address with its state, and the pod that it is of.
fn endpoint(
    service: &Value,
    pod: &Value,
    family: &str,
    zone: &dyn Fn(&str) -> Option<String>,
) -> Option<Value> {
    let (serving, terminating) = (pods::is_ready(pod), object::deleting(pod));
    let ready = service["spec"]["publishNotReadyAddresses"] == true || (serving && !terminating);
    let mut endpoint = json!({
        "addresses": [address(pod, family)?],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": reference(pod),
    });
    let node = pods::node(pod);
    if !node.is_empty() {
        endpoint["nodeName"] = json!(node);
        if let Some(zone) = zone(node) {
            endpoint["zone"] = json!(zone);
        }
    }
    if let Some(name) = hostname(service, pod) {
        endpoint["hostname"] = json!(name);
    }
    Some(endpoint)
}

/// Family and ports, which all endpoints of a slice share.
type Group = (&'static str, String);

/// `existing` are the slices of the Service that this controller made; `zone` tells the zone of a node.
pub(super) fn plan(
    service: &Value,
    behind: &[Value],
    existing: Vec<Value>,
    zone: &dyn Fn(&str) -> Option<String>,
) -> Plan {
    let mut wanted: BTreeMap<Group, (Vec<Value>, BTreeMap<String, Value>)> = BTreeMap::new();
    for family in families(service) {
        for pod in behind {
            let Some(endpoint) = endpoint(service, pod, family, zone) else { continue };
            let ports = backend::ports(service, pod);
            let group = (family, Value::Array(ports.clone()).to_string());
            let entry = wanted.entry(group).or_insert_with(|| (ports, BTreeMap::new()));
            entry.1.insert(object::uid(pod).to_owned(), endpoint);
        }
    }
    // A Service without backends has one slice that says so.
    for family in families(service) {
        if !wanted.keys().any(|(known, _)| *known == family) {
            wanted.insert((family, "[]".to_owned()), (vec![], BTreeMap::new()));
        }
    }
    let mut plan = Plan::default();
    let mut existing = existing;
    existing.sort_by(|one, other| object::name(one).cmp(object::name(other)));
    for ((family, ports), (list, mut endpoints)) in wanted {
        let is_of_group = |slice: &Value| {
            text(slice, "/addressType") == family
                && slice["ports"].as_array().cloned().unwrap_or_default() == list
        };
        let (own, rest): (Vec<Value>, Vec<Value>) = existing.into_iter().partition(is_of_group);
        existing = rest;
        fill(service, &own, &mut endpoints, &mut plan);
        let left: Vec<Value> = endpoints.into_values().collect();
        let is_placeholder = left.is_empty() && ports == "[]" && own.is_empty();
        let mut chunks: Vec<&[Value]> = left.chunks(MOST).collect();
        if is_placeholder {
            chunks.push(&[]);
        }
        plan.create.extend(chunks.into_iter().map(|endpoints| made(service, family, &list, endpoints)));
    }
    plan.delete.extend(existing);
    plan
}

/// Keeps in the slices what is still wanted, as it is now, and fills them up; empty ones go, but for the last.
fn fill(service: &Value, own: &[Value], endpoints: &mut BTreeMap<String, Value>, plan: &mut Plan) {
    let mut kept = Vec::new();
    for slice in own.iter() {
        let inside = list(slice, "/endpoints").iter();
        let now: Vec<Value> =
            inside.filter_map(|endpoint| endpoints.remove(text(endpoint, "/targetRef/uid"))).collect();
        kept.push(now);
    }
    for inside in &mut kept {
        while inside.len() < MOST
            && let Some((_, endpoint)) = endpoints.pop_first()
        {
            inside.push(endpoint);
        }
    }
    let last = kept.iter().all(Vec::is_empty);
    for (at, (slice, inside)) in own.iter().zip(kept).enumerate() {
        if inside.is_empty() && !(last && at == 0) {
            plan.delete.push(slice.clone());
            continue;
        }
        let mut changed = slice.clone();
        changed["endpoints"] = Value::Array(inside);
        changed["metadata"]["labels"] = labels(service);
        if changed != *slice {
            plan.update.push(changed);
        }
    }
}

fn labels(service: &Value) -> Value {
    let own = service["metadata"]["labels"].as_object().into_iter().flatten();
    let mut labels: serde_json::Map<String, Value> = own
        .filter(|(name, _)| *name != HEADLESS)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    labels.insert(SERVICE_NAME.to_owned(), json!(object::name(service)));
    labels.insert(MANAGED_BY.to_owned(), json!(MANAGER));
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), json!(""));
    }
    Value::Object(labels)
}

fn made(service: &Value, family: &str, ports: &[Value], endpoints: &[Value]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "generateName": format!("{}-", object::name(service)), "namespace": object::namespace(service),
            "labels": labels(service), "ownerReferences": [ownership::reference(SERVICE, service)],
        },
        "addressType": family, "ports": ports, "endpoints": endpoints,
    })
}

/// The controller.
pub struct Slices;

impl Controller for Slices {
    fn name(&self) -> &'static str {
        "endpointslice-controller"
    }

    fn user(&self) -> &'static str {
        "system:serviceaccount:kube-system:endpointslice-controller"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![SERVICE, &lines::Pod, &lines::Node, KIND]
    }

    fn touched(&self, cache: &Cache, change: &Change) -> Vec<Key> {
        if change.kind == KIND {
            let named = change.states().filter_map(|slice| slice.labels.get(SERVICE_NAME).cloned());
            return named.map(|name| Key::new(&change.key.namespace, &name)).take(1).collect();
        }
        backend::touched(cache, change)
    }

    fn reconcile<'a>(&'a self, work: &'a Work, key: &'a Key) -> BoxFuture<'a, Result<Again, Status>> {
        async move {
            let Some(service) = work.cache.store(SERVICE).get(key) else { return Ok(None) };
            let Some(selector) = backend::selector(&service).filter(|_| !object::deleting(&service)) else {
                return Ok(None);
            };
            let behind = backend::of(&work.cache, &service, &selector);
            let own = work.cache.store(KIND).entries(&key.namespace).into_iter().filter(|(_, slice)| {
                slice.labels.get(SERVICE_NAME) == Some(&key.name)
                    && slice.labels.get(MANAGED_BY).is_some_and(|manager| manager == MANAGER)
            });
            let nodes = work.cache.store(&lines::Node);
            let zone = |node: &str| nodes.entry(&Key::new("", node))?.labels.get(ZONE).cloned();
            let plan = plan(&service, &behind, own.map(|(_, slice)| slice.value()).collect(), &zone);
            plan.carry_out(work).await.map(|()| None)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(ports: Value) -> Value {
        json!({"metadata": {"name": "s", "namespace": "n", "uid": "s"}, "spec": {"selector": {"app": "a"}, "ports": ports}})
    }

    fn pod(at: usize, ready: bool) -> Value {
        json!({"metadata": {"name": format!("p{at}"), "namespace": "n", "uid": format!("u{at:04}")},
            "spec": {"nodeName": "n1", "containers": [{"ports": [{"name": "web", "containerPort": 8000 + at}]}]},
            "status": {"podIP": format!("10.0.{}.{}", at / 250, at % 250), "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}})
    }

    fn zone(_: &str) -> Option<String> {
        Some("z".to_owned())
    }

    fn endpoints(slice: &Value) -> usize {
        list(slice, "/endpoints").len()
    }

    /// As they are stored.
    fn stored(plan: &Plan) -> Vec<Value> {
        let named = |(at, slice): (usize, &Value)| {
            let mut slice = slice.clone();
            slice["metadata"]["name"] = json!(format!("s-{at}"));
            slice
        };
        plan.create.iter().enumerate().map(named).collect()
    }

    #[test]
    fn endpoints_say_whether_they_are_ready_serving_and_terminating() {
        let mut leaving = pod(2, true);
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let plan =
            plan(&service(json!([{"port": 80}])), &[pod(0, true), pod(1, false), leaving], vec![], &zone);
        let found = &plan.create[0]["endpoints"];
        let states: Vec<Value> =
            found.as_array().unwrap().iter().map(|one| one["conditions"].clone()).collect();
        let state = |ready: bool, serving: bool, terminating: bool| json!({"ready": ready, "serving": serving, "terminating": terminating});
        assert_eq!(states, [state(true, true, false), state(false, false, false), state(false, true, true)]);
        assert_eq!((&found[0]["nodeName"], &found[0]["zone"]), (&json!("n1"), &json!("z")));
        assert_eq!(plan.create[0]["ports"], json!([{"name": "", "port": 80, "protocol": "TCP"}]));
    }

    #[test]
    fn pods_with_other_numbers_for_a_named_port_are_in_other_slices() {
        let service = service(json!([{"name": "http", "port": 80, "targetPort": "web"}]));
        let plan = plan(&service, &[pod(0, true), pod(1, true)], vec![], &zone);
        let ports: Vec<&Value> = plan.create.iter().map(|slice| &slice["ports"][0]["port"]).collect();
        assert_eq!(ports, [&json!(8000), &json!(8001)]);
    }

    #[test]
    fn a_slice_holds_a_hundred_and_endpoints_stay_where_they_are() {
        let service = service(json!([{"port": 80}]));
        let mut behind: Vec<Value> = (0..150).map(|at| pod(at, true)).collect();
        let first = plan(&service, &behind, vec![], &zone);
        let sizes: Vec<usize> = first.create.iter().map(endpoints).collect();
        assert_eq!(sizes, [100, 50]);
        let existing = stored(&first);
        assert_eq!(plan(&service, &behind, existing.clone(), &zone), Plan::default());
        behind.remove(0);
        let second = plan(&service, &behind, existing, &zone);
        assert_eq!((second.create.len(), second.update.len(), second.delete.len()), (0, 1, 0));
        assert_eq!(endpoints(&second.update[0]), 99);
    }

    #[test]
    fn a_service_without_backends_has_one_empty_slice() {
        let service = service(json!([{"port": 80}]));
        let none = plan(&service, &[], vec![], &zone);
        assert_eq!(none.create.iter().map(endpoints).collect::<Vec<_>>(), [0]);
        let existing = stored(&none);
        assert_eq!(plan(&service, &[], existing.clone(), &zone), Plan::default());
        let some = plan(&service, &[pod(0, true)], existing, &zone);
        assert_eq!((some.create.len(), some.delete.len()), (1, 1));
    }
}
