//! What filters have to know of the node, of Services and of other nodes. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use apimachinery::object::text;
use kubeapi::stored::Stored;
use serde::Deserialize;
use serde_json::Value;

use crate::queue::Write;

/// EndpointSlices, as in [`kubeapi::stored::Key::resource`].
pub(crate) const SLICES: &str = "endpointslices.discovery.k8s.io";
pub(crate) const ENDPOINTS: &str = "endpoints";
pub(crate) const LEASES: &str = "leases.coordination.k8s.io";

/// Labels that name a node's pool, the one that counts first (OpenYurt's, now and before 1.0).
const POOLS: [&str; 2] = ["apps.openyurt.io/nodepool", "apps.openyurt.io/desired-nodepool"];
/// The label that names a node's group (KubeEdge).
const GROUP: &str = "apps.kubeedge.io/belonging-to";
const ZONE: &str = "topology.kubernetes.io/zone";

const TOPOLOGY: &str = "openyurt.io/topologyKeys";
const GROUPS_TOPOLOGY: &str = "apps.kubeedge.io/service-topology";

/// Namespace and name.
pub(crate) type Place = (String, String);

/// Where traffic to a Service goes from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    /// Only to this node.
    Node,
    /// Only within the node's pool.
    Pool,
    /// Only within the node's group (KubeEdge).
    Group,
    /// To the nearest that there are.
    Near(Near),
}

/// The nearest ready endpoints of a Service, by its `trafficDistribution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Near {
    Node,
    Zone,
    Anywhere,
}

/// A set of nodes that this node may be in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pool {
    /// `None`: it is in none.
    pub own: Option<String>,
    /// The nodes of the same one, this one among them; `None`: the nodes are not known.
    pub members: Option<BTreeSet<String>>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    /// This node.
    pub node: String,
    pub zone: Option<String>,
    pub pool: Pool,
    pub group: Pool,
    /// Of the nodes that are known.
    pub zones: BTreeMap<String, String>,
    /// Services with a topology.
    pub services: BTreeMap<Place, Topology>,
    /// Services whose endpoints are ready, whatever their pods are.
    pub always_ready: BTreeSet<Place>,
    /// Pods of this node whose readiness the cloud does not know yet.
    pub ready: BTreeMap<Place, bool>,
    /// Where pods of this node reach MetaServer.
    pub address: Option<SocketAddr>,
    /// Writes of this node that the cloud does not have yet.
    pub writes: Vec<Write>,
}

/// Names the Service of a slice.
const SERVICE: &str = "kubernetes.io/service-name";

/// The Service that a slice is of.
pub(crate) fn service_of(stored: &Stored, object: &Value) -> String {
    match stored.key.resource.as_str() {
        ENDPOINTS => stored.key.name.clone(),
        _ => object["metadata"]["labels"][SERVICE].as_str().unwrap_or_default().to_owned(),
    }
}

/// What facts are made of; `None`: it is not known.
#[derive(Default)]
pub(crate) struct Sources {
    pub node: String,
    pub address: Option<SocketAddr>,
    /// This node's object.
    pub own: Option<Value>,
    pub nodes: Option<Vec<Stored>>,
    pub services: Option<Vec<Stored>>,
    pub slices: Option<Vec<Stored>>,
    pub ready: BTreeMap<Place, bool>,
    pub writes: Vec<Write>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Service {
    metadata: Meta,
    spec: ServiceSpec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ServiceSpec {
    traffic_distribution: String,
    publish_not_ready_addresses: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Labelled {
    metadata: Meta,
}

/// The nearest that a Service asks for; `None`: it asks for nothing.
enum Wanted {
    Fixed(Topology),
    /// The node as well as the zone, or the zone only.
    Near {
        is_of_node: bool,
    },
}

fn wanted(service: &Service) -> Option<Wanted> {
    let annotations = &service.metadata.annotations;
    match annotations.get(TOPOLOGY).map(|keys| keys.trim()) {
        Some("kubernetes.io/hostname") => return Some(Wanted::Fixed(Topology::Node)),
        // OpenYurt takes a zone for a pool.
        Some("openyurt.io/nodepool" | "kubernetes.io/zone") => return Some(Wanted::Fixed(Topology::Pool)),
        _ => {}
    }
    if annotations.get(GROUPS_TOPOLOGY).is_some_and(|range| range == "range-nodegroup") {
        return Some(Wanted::Fixed(Topology::Group));
    }
    match service.spec.traffic_distribution.as_str() {
        "PreferSameNode" => Some(Wanted::Near { is_of_node: true }),
        "PreferSameZone" | "PreferClose" => Some(Wanted::Near { is_of_node: false }),
        _ => None,
    }
}

impl Facts {
    /// A Service goes to the nearest endpoints.
    pub(crate) fn has_near(&self) -> bool {
        self.services.values().any(|topology| matches!(topology, Topology::Near(_)))
    }

    /// Nothing else is different than which writes wait.
    pub(crate) fn is_same_but_for_writes(&self, other: &Facts) -> bool {
        let Facts { node, zone, pool, group, zones, services, always_ready, ready, address, writes: _ } =
            self;
        (node, zone, address) == (&other.node, &other.zone, &other.address)
            && (pool, group, zones) == (&other.pool, &other.group, &other.zones)
            && (services, always_ready, ready) == (&other.services, &other.always_ready, &other.ready)
    }

    pub(crate) fn of(sources: &Sources) -> Facts {
        let Sources { node, address, own, nodes, services, slices, ready, writes } = sources;
        let mut facts = Facts {
            node: node.clone(),
            address: *address,
            ready: ready.clone(),
            writes: writes.clone(),
            ..Facts::default()
        };
        facts.know_nodes(own.as_ref(), nodes.as_deref());
        let mut near = BTreeMap::new();
        for stored in services.iter().flatten() {
            let Ok(service) = serde_json::from_str::<Service>(&stored.body) else { continue };
            let place = (stored.key.namespace.clone(), stored.key.name.clone());
            if service.spec.publish_not_ready_addresses {
                facts.always_ready.insert(place.clone());
            }
            match wanted(&service) {
                Some(Wanted::Fixed(topology)) => drop(facts.services.insert(place, topology)),
                Some(Wanted::Near { is_of_node }) => drop(near.insert(place, (is_of_node, Near::Anywhere))),
                None => {}
            }
        }
        if !near.is_empty() {
            slices.iter().flatten().for_each(|slice| facts.approach(slice, &mut near));
        }
        let near = near.into_iter().map(|(place, (_, near))| (place, Topology::Near(near)));
        facts.services.extend(near);
        facts
    }

    fn know_nodes(&mut self, own: Option<&Value>, nodes: Option<&[Stored]>) {
        let read = |stored: &Stored| {
            let node = serde_json::from_str::<Labelled>(&stored.body).unwrap_or_default();
            (stored.key.name.clone(), node.metadata.labels)
        };
        let known: Option<BTreeMap<String, BTreeMap<String, String>>> =
            nodes.map(|nodes| nodes.iter().map(read).collect());
        let own = known.as_ref().and_then(|known| known.get(&self.node).cloned()).or_else(|| {
            let labels = own?.pointer("/metadata/labels")?.clone();
            serde_json::from_value(labels).ok()
        });
        let own = own.unwrap_or_default();
        let pool = |labels: &BTreeMap<String, String>| {
            POOLS.iter().find_map(|label| labels.get(*label)).filter(|pool| !pool.is_empty()).cloned()
        };
        let group =
            |labels: &BTreeMap<String, String>| labels.get(GROUP).filter(|group| !group.is_empty()).cloned();
        let members = |of: &dyn Fn(&BTreeMap<String, String>) -> Option<String>| {
            let mine = of(&own);
            let known = known.as_ref()?.iter();
            let same = known.filter(|(_, labels)| of(labels) == mine).map(|(name, _)| name.clone());
            Some(same.chain([self.node.clone()]).collect::<BTreeSet<String>>())
        };
        self.pool = Pool { members: members(&pool), own: pool(&own) };
        self.group = Pool { members: members(&group), own: group(&own) };
        self.zone = own.get(ZONE).cloned();
        let known = known.into_iter().flatten();
        self.zones = known.filter_map(|(name, labels)| Some((name, labels.get(ZONE)?.clone()))).collect();
    }

    /// Notes how near the ready endpoints of a slice are.
    fn approach(&self, stored: &Stored, services: &mut BTreeMap<Place, (bool, Near)>) {
        let slice: Value = serde_json::from_str(&stored.body).unwrap_or_default();
        let place = (stored.key.namespace.clone(), service_of(stored, &slice));
        let Some((is_of_node, nearest)) = services.get_mut(&place) else { return };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            let node = text(endpoint, "/nodeName");
            let pod = (stored.key.namespace.clone(), text(endpoint, "/targetRef/name").to_owned());
            let known = self.ready.get(&pod).filter(|_| node == self.node).copied();
            if !known.unwrap_or(endpoint["conditions"]["ready"] != false) {
                continue;
            }
            let zone = match text(endpoint, "/zone") {
                "" => self.zones.get(node).map_or("", String::as_str),
                zone => zone,
            };
            let is_near = !zone.is_empty() && self.zone.as_deref() == Some(zone);
            let distance = match (node == self.node, is_near) {
                (true, _) if *is_of_node => Near::Node,
                (true, _) | (_, true) if self.zone.is_some() => Near::Zone,
                _ => Near::Anywhere,
            };
            *nearest = (*nearest).min(distance);
        }
    }
}
