//! The API server: objects with versions, the log that watches read, and what devices reported.

use std::collections::BTreeMap;

use api::reliablesyncs::NEVER;
use cloudcore::desired::Settled;
use cloudcore::devicecontroller::Stamp;
use cloudcore::kubernetes::Meta;
use message::{Json, ObjectKey, ObjectKind, ResourceVersion};
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// One object as it is now.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub kind: ObjectKind,
    pub meta: Meta,
    pub json: Json,
}

/// What a watch sees.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Put(Object),
    Gone(Object),
}

/// What was reported of one device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reported {
    pub stamp: Option<Stamp>,
    /// Every value ever written, in order.
    pub values: Vec<u64>,
}

#[derive(Default)]
pub(crate) struct Api {
    version: u64,
    uids: u64,
    pub objects: BTreeMap<(String, String), Object>,
    pub log: Vec<Event>,
    pub devices: BTreeMap<String, Reported>,
    /// What nodes have acknowledged, by edge and uid (ObjectSyncs).
    pub records: BTreeMap<(usize, String), (ObjectKey, ResourceVersion)>,
    /// Nobody is answered for now.
    pub refuses: bool,
}

/// Config maps there may be; few, so that pods share them.
const CONFIG_MAPS: u32 = 3;
/// Pods there may be.
const PODS: u32 = 4;

impl Api {
    /// Creates the node objects.
    pub(crate) fn new(nodes: usize) -> Api {
        let mut api = Api::default();
        for node in 0..nodes {
            api.write(ObjectKind::Node, &edge_name(node), json!({"spec": {}}), false);
        }
        api
    }

    /// Some change by somebody.
    pub(crate) fn change(&mut self, rng: &mut StdRng, nodes: usize) {
        let config_map = format!("c{}", rng.random_range(0..CONFIG_MAPS));
        let pod = format!("p{}", rng.random_range(0..PODS));
        match rng.random_range(0..10) {
            0..4 => self.write(ObjectKind::ConfigMap, &config_map, data(rng), false),
            // A write that changes nothing a node reacts to.
            4 => self.touch(&ObjectKind::ConfigMap, &config_map),
            5 => self.touch(&ObjectKind::Pod, &pod),
            6 => self.delete(&ObjectKind::ConfigMap, &config_map),
            7 => self.delete(&ObjectKind::Pod, &pod),
            _ => {
                let node = edge_name(rng.random_range(0..nodes));
                self.write(ObjectKind::Pod, &pod, pod_spec(&node, &config_map), true);
            }
        }
    }

    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    fn write(&mut self, kind: ObjectKind, name: &str, body: Value, create_only: bool) {
        let at = (kind.to_string(), name.to_owned());
        let known = self.objects.get(&at).map(|object| object.meta.uid.clone());
        if known.is_some() && create_only {
            return;
        }
        let uid = known.unwrap_or_else(|| {
            self.uids += 1;
            format!("uid-{}", self.uids)
        });
        self.store(kind, name, &uid, body);
    }

    fn store(&mut self, kind: ObjectKind, name: &str, uid: &str, mut body: Value) {
        let version = self.next_version();
        let namespace = (!kind.is_cluster_scoped()).then(|| "d".to_owned());
        body["metadata"] =
            json!({"name": name, "namespace": namespace, "uid": uid, "resourceVersion": version});
        let meta = Meta {
            name: name.to_owned(),
            namespace,
            uid: uid.to_owned(),
            resource_version: version,
            deletion_timestamp: None,
        };
        let json = Json::encode(&body).unwrap_or_else(|_| Json::null());
        let object = Object { kind: kind.clone(), meta, json };
        self.objects.insert((kind.to_string(), name.to_owned()), object.clone());
        self.log.push(Event::Put(object));
    }

    /// A status of the object changes: a new version, and nothing for its node.
    fn touch(&mut self, kind: &ObjectKind, name: &str) {
        let Some(object) = self.objects.get(&(kind.to_string(), name.to_owned())).cloned() else { return };
        let mut body: Value = object.json.parse().unwrap_or_default();
        body["status"] = json!({"touched": self.version});
        self.store(object.kind, name, &object.meta.uid, body);
    }

    fn delete(&mut self, kind: &ObjectKind, name: &str) {
        if let Some(object) = self.objects.remove(&(kind.to_string(), name.to_owned())) {
            self.next_version();
            self.log.push(Event::Gone(object));
        }
    }

    /// As the device controller does: read, compare the stamp and the value, write.
    pub(crate) fn report(&mut self, device: &str, value: u64, stamp: Option<Stamp>) {
        let reported = self.devices.entry(device.to_owned()).or_default();
        let is_covered = stamp.as_ref().is_some_and(|stamp| stamp.is_covered_by(reported.stamp.as_ref()));
        if !is_covered && reported.values.last() != Some(&value) {
            reported.values.push(value);
            reported.stamp = stamp;
        }
    }

    /// As the sync controller does: remember what a node has.
    pub(crate) fn record(&mut self, edge: usize, settled: Settled) {
        let Settled { key, uid, version, .. } = settled;
        match version {
            Some(version) => {
                // What it took the place of is not there any longer.
                self.records.retain(|(of, other), (name, _)| *of != edge || *other == uid || *name != key);
                self.records.insert((edge, uid), (key, version))
            }
            None => self.records.remove(&(edge, uid)),
        };
    }

    /// What the node is recorded to have, it may not have.
    pub(crate) fn doubt(&mut self, edge: usize, key: ObjectKey, uid: &str) {
        self.records.insert((edge, uid.to_owned()), (key, ResourceVersion(NEVER.to_owned())));
    }

    /// What a node is recorded to have.
    pub(crate) fn recorded(&self, edge: usize) -> Vec<(ObjectKey, String, ResourceVersion)> {
        let of_edge = self.records.iter().filter(|((of, _), _)| *of == edge);
        of_edge.map(|((_, uid), (key, version))| (key.clone(), uid.clone(), version.clone())).collect()
    }

    pub(crate) fn find(&self, kind: &ObjectKind, name: &str) -> Option<&Object> {
        self.objects.get(&(kind.to_string(), name.to_owned()))
    }
}

pub(crate) fn edge_name(number: usize) -> String {
    format!("e{number}")
}

/// The node of a pod.
pub(crate) fn node_of(pod: &Object) -> Option<String> {
    let pod: Value = pod.json.parse().ok()?;
    pod["spec"]["nodeName"].as_str().map(str::to_owned)
}

/// Long enough that a difference pays.
fn data(rng: &mut StdRng) -> Value {
    let filler: Vec<String> = (0..60).map(|n| format!("line {n} of a configuration")).collect();
    json!({"data": {"text": filler.join("\n"), "number": rng.random_range(0..1000).to_string()}})
}

fn pod_spec(node: &str, config_map: &str) -> Value {
    json!({"spec": {
        "nodeName": node,
        "containers": [{"name": "c", "image": "i", "envFrom": [{"configMapRef": {"name": config_map}}]}],
    }})
}
