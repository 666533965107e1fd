//! What a pod takes of its node, as the scheduler counts it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::plan::is_sidecar;
use super::quantity;
use super::resources::{self, Qos};
use super::spec::all_containers;

/// Amounts by resource name: `cpu` in millicores, all others in whole units.
pub type Amounts = BTreeMap<String, i64>;

/// From this priority on a pod is needed by the node itself.
pub const CRITICAL_PRIORITY: i32 = 2_000_000_000;
/// Annotations of pods from files and of their image in the API.
pub const SOURCE: &str = "kubernetes.io/config.source";
pub const MIRROR: &str = "kubernetes.io/config.mirror";

#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    pub requests: Amounts,
    /// Port, protocol and address of every host port; an empty address stands for all.
    pub ports: BTreeSet<(i32, String, String)>,
    pub qos: Qos,
    pub priority: i32,
    pub is_static: bool,
    /// A controller would replace the pod.
    pub is_controlled: bool,
}

impl Demand {
    pub fn of(pod: &Pod) -> Demand {
        let spec = pod.spec.clone().unwrap_or_default();
        let owners = pod.metadata.owner_references.iter().flatten();
        Demand {
            requests: requests(&spec),
            ports: ports(&spec),
            qos: resources::qos(&spec),
            priority: spec.priority.unwrap_or(0),
            is_static: false,
            is_controlled: owners.into_iter().any(|owner| owner.controller == Some(true)),
        }
    }

    /// The demand of a pod that comes from a file of this node.
    pub fn of_static(pod: &Pod) -> Demand {
        Demand { is_static: true, ..Demand::of(pod) }
    }

    /// Never evicted, and may push others aside.
    pub fn is_critical(&self) -> bool {
        self.is_static || self.priority >= CRITICAL_PRIORITY
    }

    pub fn request(&self, resource: &str) -> i64 {
        self.requests.get(resource).copied().unwrap_or(0)
    }
}

/// The hash of the static pod this object stands for in the API.
pub fn mirrored(pod: &Pod) -> Option<&str> {
    pod.metadata.annotations.as_ref()?.get(MIRROR).map(String::as_str)
}

fn of_container(container: &Container) -> Amounts {
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    requests
        .into_iter()
        .flatten()
        .filter_map(|(name, text)| Some((name.clone(), amount(name, text)?)))
        .collect()
}

/// An amount in the units of [`Amounts`].
pub fn amount(name: &str, text: &k8s_openapi::apimachinery::pkg::api::resource::Quantity) -> Option<i64> {
    match name {
        "cpu" => quantity::milli(text),
        _ => quantity::units(text),
    }
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, value) in more {
        let known = sum.entry(name.clone()).or_default();
        *known = known.saturating_add(*value);
    }
}

fn raise(most: &mut Amounts, other: &Amounts) {
    for (name, value) in other {
        let known = most.entry(name.clone()).or_default();
        *known = (*known).max(*value);
    }
}

/// The sum of what runs side by side, or what the largest init container needs beside the sidecars before it; plus the
/// overhead of the pod's runtime.
fn requests(spec: &PodSpec) -> Amounts {
    let mut together = Amounts::new();
    spec.containers.iter().for_each(|container| add(&mut together, &of_container(container)));
    let (mut sidecars, mut largest) = (Amounts::new(), Amounts::new());
    for init in spec.init_containers.iter().flatten() {
        let own = of_container(init);
        let mut at_that_time = sidecars.clone();
        add(&mut at_that_time, &own);
        if is_sidecar(init) {
            add(&mut together, &own);
            sidecars.clone_from(&at_that_time);
        }
        raise(&mut largest, &at_that_time);
    }
    raise(&mut together, &largest);
    let overhead = spec.overhead.iter().flatten();
    let overhead: Amounts =
        overhead.filter_map(|(name, text)| Some((name.clone(), amount(name, text)?))).collect();
    add(&mut together, &overhead);
    together
}

fn ports(spec: &PodSpec) -> BTreeSet<(i32, String, String)> {
    let all = all_containers(spec).flat_map(|container| container.ports.iter().flatten());
    all.filter_map(|port| {
        // In the host's network every port is a host port.
        let own = (spec.host_network == Some(true)).then_some(port.container_port);
        let number = port.host_port.filter(|port| *port > 0).or(own)?;
        let address = port.host_ip.clone().filter(|ip| ip != "0.0.0.0").unwrap_or_default();
        Some((number, port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), address))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn demand(spec: serde_json::Value) -> Demand {
        Demand::of(&serde_json::from_value(json!({"spec": spec})).unwrap())
    }

    fn container(name: &str, cpu: &str) -> serde_json::Value {
        json!({"name": name, "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn init_containers_count_one_by_one_and_sidecars_with_what_comes_after() {
        let mut sidecar = container("s", "100m");
        sidecar["restartPolicy"] = json!("Always");
        let table = [
            (json!([]), "100m", 200),
            (json!([container("i", "500m")]), "100m", 500),
            (json!([sidecar]), "100m", 300),
            (json!([sidecar, container("i", "500m")]), "100m", 600),
            (json!([container("i", "500m"), sidecar]), "100m", 500),
        ];
        for (index, (init, cpu, expected)) in table.into_iter().enumerate() {
            let containers = [container("a", cpu), container("b", cpu)];
            let spec = json!({"initContainers": init, "containers": containers});
            assert_eq!(demand(spec).request("cpu"), expected, "row {index}");
        }
        let with_overhead = json!({"containers": [container("a", "1")], "overhead": {"cpu": "250m"}});
        assert_eq!(demand(with_overhead).request("cpu"), 1250);
    }

    #[test]
    fn every_port_of_a_pod_in_the_hosts_network_is_the_hosts() {
        let containers = json!([{"name": "a", "ports": [
            {"containerPort": 80}, {"containerPort": 81, "hostPort": 8081, "protocol": "UDP", "hostIP": "0.0.0.0"}]}]);
        let own = demand(json!({"containers": containers}));
        assert_eq!(own.ports, BTreeSet::from([(8081, "UDP".to_owned(), String::new())]));
        let host = demand(json!({"containers": containers, "hostNetwork": true}));
        assert_eq!(host.ports.len(), 2);
    }
}
