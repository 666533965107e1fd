//! What the scheduler needs to know of a pod that is on a node: little, and read once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use apimachinery::object::{self, integer, list, text};
use apimachinery::quantity;
use controllers::api::{Key, Kind};
use controllers::cache::{Entry, Store};
use controllers::{pods, pods::is_finished};
use serde_json::Value;

use crate::terms::{self, Term};

/// The amounts that are asked for, CPU in thousandths, all else in units.
pub(crate) type Amounts = BTreeMap<String, i64>;

/// What a container without requests counts as when nodes are compared (`pkg/scheduler/util/pod_resources.go`).
const CPU: i64 = 100;
const MEMORY: i64 = 200 * 1024 * 1024;

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Facts {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub priority: i64,
    /// When it started, or was made.
    pub since: String,
    pub node: String,
    pub labels: BTreeMap<String, String>,
    /// The uid of the controller, or "".
    pub owner: String,
    pub requests: Amounts,
    /// The same, with something for containers that ask for nothing: CPU and memory.
    pub weight: (i64, i64),
    /// Address, protocol, port on the host.
    pub ports: Vec<(String, String, i64)>,
    /// Required anti-affinity, which holds for newcomers as well.
    pub keeps_off: Vec<Term>,
    pub leaving: bool,
}

/// An amount in the unit of its resource.
pub(crate) fn amount(name: &str, value: &Value) -> i64 {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let read = if name == "cpu" { quantity::milli(&text) } else { quantity::units(&text) };
    read.and_then(|read| i64::try_from(read).ok()).unwrap_or(0)
}

pub(crate) fn amounts(value: &Value) -> Amounts {
    let all = value.as_object().into_iter().flatten();
    all.map(|(name, value)| (name.clone(), amount(name, value))).collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, value) in more {
        *to.entry(name.clone()).or_default() += value;
    }
}

fn at_least(to: &mut Amounts, other: &Amounts) {
    for (name, value) in other {
        let entry = to.entry(name.clone()).or_default();
        *entry = (*entry).max(*value);
    }
}

/// What a pod asks for: its containers together, or the largest step of its start if that is more, and the overhead
/// (`k8s.io/component-helpers/resource`).
fn total(spec: &Value, of: &dyn Fn(&Value) -> Amounts) -> Amounts {
    let (mut sum, mut sidecars, mut start) = (Amounts::new(), Amounts::new(), Amounts::new());
    list(spec, "/containers").iter().for_each(|container| add(&mut sum, &of(container)));
    for container in list(spec, "/initContainers") {
        let mut step = of(container);
        if container["restartPolicy"] == "Always" {
            add(&mut sidecars, &step);
            step = sidecars.clone();
        } else {
            add(&mut step, &sidecars);
        }
        at_least(&mut start, &step);
    }
    add(&mut sum, &sidecars);
    at_least(&mut sum, &start);
    add(&mut sum, &amounts(&spec["overhead"]));
    sum
}

fn weight(spec: &Value) -> (i64, i64) {
    let with_defaults = |container: &Value| {
        let mut asked = amounts(&container["resources"]["requests"]);
        asked.entry("cpu".to_owned()).or_insert(CPU);
        asked.entry("memory".to_owned()).or_insert(MEMORY);
        asked
    };
    let total = total(spec, &with_defaults);
    (total.get("cpu").copied().unwrap_or(0), total.get("memory").copied().unwrap_or(0))
}

fn ports(spec: &Value) -> Vec<(String, String, i64)> {
    let containers = list(spec, "/containers").iter().chain(list(spec, "/initContainers"));
    let ports = containers.flat_map(|container| list(container, "/ports"));
    let on_host = ports.filter_map(|port| Some((port, integer(port, "/hostPort").filter(|port| *port > 0)?)));
    let or = |text: &str, usual: &str| if text.is_empty() { usual.to_owned() } else { text.to_owned() };
    on_host
        .map(|(port, number)| {
            (or(text(port, "/hostIP"), "0.0.0.0"), or(text(port, "/protocol"), "TCP"), number)
        })
        .collect()
}

impl Facts {
    pub(crate) fn of(pod: &Value) -> Facts {
        let spec = &pod["spec"];
        let labels = pod["metadata"]["labels"].as_object().into_iter().flatten();
        let owner = list(pod, "/metadata/ownerReferences").iter().find(|owner| owner["controller"] == true);
        Facts {
            namespace: object::namespace(pod).to_owned(),
            name: object::name(pod).to_owned(),
            uid: object::uid(pod).to_owned(),
            priority: integer(pod, "/spec/priority").unwrap_or(0),
            since: match text(pod, "/status/startTime") {
                "" => text(pod, "/metadata/creationTimestamp").to_owned(),
                started => started.to_owned(),
            },
            node: pods::node(pod).to_owned(),
            labels: labels
                .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect(),
            owner: owner.map(|owner| text(owner, "/uid").to_owned()).unwrap_or_default(),
            requests: total(spec, &|container| amounts(&container["resources"]["requests"])),
            weight: weight(spec),
            ports: ports(spec),
            keeps_off: terms::required(pod, "podAntiAffinity"),
            leaving: object::deleting(pod),
        }
    }
}

/// What was read of the pods in the cache.
#[derive(Default)]
pub(crate) struct Known(HashMap<Key, (u64, Option<Arc<Facts>>)>);

impl Known {
    /// The pods that are on nodes and have not ended, and the keys of those that wait for one.
    pub(crate) fn look(&mut self, store: &Store) -> (Vec<Arc<Facts>>, Vec<Value>) {
        let (mut placed, mut waiting, mut next) = (Vec::new(), Vec::new(), HashMap::new());
        for (key, entry) in store.entries("") {
            let known = self.0.remove(&key).filter(|(version, _)| *version == entry.version);
            let facts = match known {
                Some((_, facts)) => facts,
                None => read(&entry, &mut waiting),
            };
            placed.extend(facts.clone());
            // What waits is read anew each time.
            if facts.is_some() || waiting.last().is_none_or(|pod| Key::of(pod) != key) {
                next.insert(key, (entry.version, facts));
            }
        }
        self.0 = next;
        (placed, waiting)
    }
}

fn read(entry: &Entry, waiting: &mut Vec<Value>) -> Option<Arc<Facts>> {
    let pod = entry.value();
    if is_finished(&pod) {
        return None;
    }
    if !pods::node(&pod).is_empty() {
        return Some(Arc::new(Facts::of(&pod)));
    }
    if is_ours(&pod) {
        waiting.push(pod);
    }
    None
}

/// True for a pod that waits for this scheduler.
pub(crate) fn is_ours(pod: &Value) -> bool {
    let scheduler = text(pod, "/spec/schedulerName");
    matches!(scheduler, "" | "default-scheduler")
        && pods::node(pod).is_empty()
        && pods::is_active(pod)
        && list(pod, "/spec/schedulingGates").is_empty()
}

/// For messages.
pub(crate) const POD: Kind = &apimachinery::kinds::lines::Pod;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_asks_for_its_containers_or_the_largest_step_of_its_start() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let sidecar = json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}});
        let pod = |init: Value| json!({"spec": {"containers": [container("200m"), container("300m")], "initContainers": init, "overhead": {"cpu": "10m"}}});
        let cpu = |pod: &Value| Facts::of(pod).requests["cpu"];
        assert_eq!(cpu(&pod(json!([]))), 510);
        assert_eq!(cpu(&pod(json!([container("400m")]))), 510);
        assert_eq!(cpu(&pod(json!([container("2")]))), 2010);
        assert_eq!(cpu(&pod(json!([sidecar, container("2")]))), 2110);
        assert_eq!(cpu(&pod(json!([sidecar]))), 610);
    }
}
