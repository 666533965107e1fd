//! Filters of Services.

use std::net::IpAddr;

use apimachinery::object::text;
use kubeapi::stored::Stored;
use serde_json::{Value, json};

use super::facts::Facts;
use super::{Seen, with};

const DISCARD: &str = "svc.openyurt.io/discard";
/// Services that OpenYurt makes for its tunnel in the cloud.
const TUNNEL: [(&str, &str); 2] =
    [("kube-system", "x-tunnel-server-svc"), ("kube-system", "x-tunnel-server-internal-svc")];
pub(super) const LISTEN: &str = "nodeport.openyurt.io/listen";

fn annotation<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"]["annotations"][name].as_str().unwrap_or_default()
}

/// The Service that in-cluster clients ask is MetaServer.
pub(super) fn master(facts: &Facts, stored: &Stored) -> Seen {
    if (stored.key.namespace.as_str(), stored.key.name.as_str()) != ("default", "kubernetes") {
        return Seen::AsItIs;
    }
    let (Some(address), Some(mut service)) = (facts.address, with(stored, "")) else { return Seen::AsItIs };
    let ip = address.ip().to_string();
    let spec = &mut service["spec"];
    spec["clusterIP"] = json!(ip);
    spec["clusterIPs"] = json!([ip]);
    spec["ipFamilies"] = json!([if matches!(address.ip(), IpAddr::V4(_)) { "IPv4" } else { "IPv6" }]);
    for port in spec["ports"].as_array_mut().into_iter().flatten().filter(|port| port["name"] == "https") {
        port["port"] = json!(address.port());
        port["targetPort"] = json!(address.port());
    }
    Seen::Changed(service)
}

/// Load balancers that are in the cloud only.
pub(super) fn discard(stored: &Stored) -> Seen {
    if TUNNEL.contains(&(stored.key.namespace.as_str(), stored.key.name.as_str())) {
        return Seen::Hidden;
    }
    let Some(service) = with(stored, DISCARD) else { return Seen::AsItIs };
    let is_discarded =
        text(&service, "/spec/type") == "LoadBalancer" && annotation(&service, DISCARD) == "true";
    if is_discarded { Seen::Hidden } else { Seen::AsItIs }
}

/// Ports of nodes that are open in some pools only: `pool1,-pool2,*`.
pub(super) fn isolate(facts: &Facts, stored: &Stored) -> Seen {
    let (Some(pool), Some(service)) = (&facts.pool.own, with(stored, LISTEN)) else { return Seen::AsItIs };
    let has_port = matches!(text(&service, "/spec/type"), "NodePort" | "LoadBalancer");
    let listen = annotation(&service, LISTEN);
    if !has_port || listen.is_empty() {
        return Seen::AsItIs;
    }
    let entries: Vec<&str> = listen.split(',').map(str::trim).collect();
    let named = |name: &str| entries.contains(&name);
    let is_open = !named(&format!("-{pool}")) && (named(pool) || named("*"));
    if is_open { Seen::AsItIs } else { Seen::Hidden }
}
