//! Endpoints, one object for each Service, of its first family of addresses.

use std::collections::BTreeMap;

use apimachinery::Status;
use apimachinery::kinds::lines;
use apimachinery::object::{self, text};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::backend::{self, SERVICE, address, families, hostname, is_headless, reference};
use crate::api::{Key, Kind};
use crate::cache::{Cache, Change};
use crate::pods;
use crate::shell::{Again, Controller, Work};

const KIND: Kind = &lines::Endpoints;
/// Addresses of one object (`maxCapacity`); what is more is left out and said so.
const MOST: usize = 1000;
const OVER: &str = "endpoints.kubernetes.io/over-capacity";
const HEADLESS: &str = "service.kubernetes.io/headless";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";

/// The subsets: pods with the same ports, parted by whether they are ready. True: some were left out.
pub(super) fn subsets(service: &Value, behind: &[Value]) -> (Vec<Value>, bool) {
    let family = families(service)[0];
    let publishes_all = service["spec"]["publishNotReadyAddresses"] == true;
    let mut groups: BTreeMap<String, (Vec<Value>, [Vec<Value>; 2])> = BTreeMap::new();
    let mut count = 0;
    let mut behind: Vec<&Value> = behind.iter().collect();
    behind.sort_by_cached_key(|pod| address(pod, family).unwrap_or_default().to_owned());
    for pod in behind {
        let Some(ip) = address(pod, family).filter(|_| publishes_all || !object::deleting(pod)) else {
            continue;
        };
        count += 1;
        if count > MOST {
            break;
        }
        let mut entry = json!({"ip": ip, "targetRef": reference(pod)});
        if !pods::node(pod).is_empty() {
            entry["nodeName"] = json!(pods::node(pod));
        }
        if let Some(name) = hostname(service, pod) {
            entry["hostname"] = json!(name);
        }
        let ports = backend::ports(service, pod);
        let group = groups.entry(json!(ports).to_string()).or_insert_with(|| (ports, Default::default()));
        group.1[usize::from(!(publishes_all || pods::is_ready(pod)))].push(entry);
    }
    let subset = |(ports, [ready, unready]): (Vec<Value>, [Vec<Value>; 2])| {
        let mut subset = Map::new();
        for (field, addresses) in [("addresses", ready), ("notReadyAddresses", unready)] {
            if !addresses.is_empty() {
                subset.insert(field.to_owned(), json!(addresses));
            }
        }
        if !ports.is_empty() {
            subset.insert("ports".to_owned(), ports.into_iter().map(unnamed).collect());
        }
        Value::Object(subset)
    };
    (groups.into_values().map(subset).collect(), count > MOST)
}

/// A port without a name has no field for it here.
fn unnamed(mut port: Value) -> Value {
    if text(&port, "/name").is_empty() {
        object::as_map(&mut port).remove("name");
    }
    port
}

fn wanted(service: &Value, behind: &[Value]) -> Value {
    let (subsets, is_over) = subsets(service, behind);
    let mut labels = service["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(MANAGED_BY.to_owned(), json!("endpoint-controller"));
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), json!(""));
    }
    let mut value = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": object::name(service), "namespace": object::namespace(service), "labels": labels},
    });
    if !subsets.is_empty() {
        value["subsets"] = json!(subsets);
    }
    if is_over {
        value["metadata"]["annotations"] = json!({OVER: "truncated"});
    }
    value
}

/// The controller.
pub struct Lists;

impl Controller for Lists {
    fn name(&self) -> &'static str {
        "endpoints-controller"
    }

    fn user(&self) -> &'static str {
        "system:serviceaccount:kube-system:endpoint-controller"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![SERVICE, &lines::Pod, KIND]
    }

    fn touched(&self, cache: &Cache, change: &Change) -> Vec<Key> {
        if change.kind == KIND {
            // Those that somebody keeps for no Service stay: leader election once used them.
            let is_own = |value: &Value| value["metadata"]["labels"][MANAGED_BY] == "endpoint-controller";
            let concerns = cache.store(SERVICE).get(&change.key).is_some()
                || change.states().any(|state| is_own(&state.value()));
            return if concerns { vec![change.key.clone()] } else { vec![] };
        }
        backend::touched(cache, change)
    }

    fn reconcile<'a>(&'a self, work: &'a Work, key: &'a Key) -> BoxFuture<'a, Result<Again, Status>> {
        async move {
            let found = work.cache.store(KIND).get(key);
            let Some(service) = work.cache.store(SERVICE).get(key) else {
                // They go with their Service, whoever made them, as upstream's controller has it.
                return match found {
                    Some(found) => work.client.delete(KIND, &found).await.map(|()| None),
                    None => Ok(None),
                };
            };
            let Some(selector) = backend::selector(&service).filter(|_| !object::deleting(&service)) else {
                return Ok(None);
            };
            let wanted = wanted(&service, &backend::of(&work.cache, &service, &selector));
            match found {
                None => work.client.create(KIND, &wanted).await.map(|_| None),
                Some(found) => {
                    let mut changed = found.clone();
                    changed["metadata"]["labels"] = wanted["metadata"]["labels"].clone();
                    match wanted.get("subsets") {
                        Some(subsets) => changed["subsets"] = subsets.clone(),
                        None => drop(object::as_map(&mut changed).remove("subsets")),
                    }
                    if changed == found {
                        return Ok(None);
                    }
                    work.client.update(KIND, &changed).await.map(|_| None)
                }
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parted_by_readiness_and_grouped_by_ports() {
        let pod = |ip: &str, ready: &str, port: i64| {
            json!({"metadata": {"name": ip, "namespace": "n", "uid": ip}, "spec": {"containers": [{"ports": [{"name": "web", "containerPort": port}]}]},
                "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}})
        };
        let service =
            json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80, "targetPort": "web"}]}});
        let (subsets, is_over) = subsets(
            &service,
            &[pod("10.0.0.2", "True", 1), pod("10.0.0.1", "False", 1), pod("10.0.0.3", "True", 2)],
        );
        assert!(!is_over);
        assert_eq!(subsets.len(), 2);
        assert_eq!(subsets[0]["ports"], json!([{"port": 1, "protocol": "TCP"}]));
        assert_eq!(subsets[0]["addresses"][0]["ip"], "10.0.0.2");
        assert_eq!(subsets[0]["notReadyAddresses"][0]["ip"], "10.0.0.1");
    }
}
