//! Whether a node's name is in use by a machine that is connected. A second machine with that name would take the session
//! from the first, and lose it again, for ever (KubeEdge 1.20 and later refuse such a join as well).

use std::time::Duration;

use apimachinery::kinds::{NODE_LEASES, lines};
use hyper::StatusCode;
use message::{Json, NodeName};
use serde_json::{Value, json};

use super::super::Registry;
use super::super::registry::Presence;
use super::RegisterRefusal;
use crate::kubernetes::Cluster;

/// A lease that is younger shows that its node is connected to some replica, where it names no duration.
const LEASE: Duration = Duration::from_secs(40);
/// Where events of nodes are.
const EVENTS: Option<&str> = Some("default");

/// Refuses a certificate for `node` to a machine that has none, while another machine is connected by that name.
/// `take_over`: its operator says that it is meant.
pub(super) async fn check(
    cluster: &Cluster,
    registry: &Registry,
    node: &NodeName,
    peer: &str,
    take_over: bool,
) -> Result<(), RegisterRefusal> {
    let occupied = match registry.presence(node) {
        Presence::Connected => true,
        Presence::LeftLately => false,
        Presence::Unknown => is_renewed_elsewhere(cluster, node).await,
    };
    if !occupied {
        return Ok(());
    }
    let (kind, text) = if take_over {
        (
            "Normal",
            format!("a machine at {peer} takes the name of node {node} over from the one that is connected"),
        )
    } else {
        ("Warning", format!("a machine at {peer} asked for a certificate as node {node}, which is connected"))
    };
    tracing::warn!(%node, peer, take_over, "a second machine asks for the name of a connected node");
    tell(cluster, node, kind, &text).await;
    if take_over {
        return Ok(());
    }
    Err(RegisterRefusal(
        StatusCode::CONFLICT,
        format!(
            "node {node} is connected from another machine: give this one a name of its own (--edgenode-name). If that \
             machine is gone, try again in a minute; to take its name over now, join with --take-over"
        ),
    ))
}

/// True if the node's lease says that it is connected to another replica. An API server that cannot say so lets the
/// machine in: it is no authority on who may come, a token is.
async fn is_renewed_elsewhere(cluster: &Cluster, node: &NodeName) -> bool {
    let Ok(lease) = cluster.get(&lines::Lease.path(Some(NODE_LEASES), node.as_str())).await else {
        return false;
    };
    let spec = &lease.parse::<Value>().unwrap_or_default()["spec"];
    let renewed = spec["renewTime"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
    let lasts = spec["leaseDurationSeconds"].as_u64().map_or(LEASE, Duration::from_secs);
    renewed.is_some_and(|renewed| {
        let age = daemon::clock::now().duration_since(renewed);
        age.abs() < jiff::SignedDuration::try_from(lasts).unwrap_or(jiff::SignedDuration::ZERO)
    })
}

async fn tell(cluster: &Cluster, node: &NodeName, kind: &str, text: &str) {
    let now = daemon::clock::rfc3339(daemon::clock::now());
    // One event per node: a machine that tries again and again changes its count.
    let name = format!("{node}.duplicate-node-name");
    let event = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "namespace": "default"},
        "involvedObject": {"kind": "Node", "name": node.as_str(), "uid": node.as_str()},
        "reason": "DuplicateNodeName", "message": text, "type": kind, "count": 1,
        "source": {"component": "cloudcore"}, "firstTimestamp": now, "lastTimestamp": now,
    });
    let told = async {
        let created = cluster.create(&lines::Event.path(EVENTS, ""), &Json::of(&event)).await;
        match created {
            Err(status) if status.is_conflict() => count(cluster, &name, text, &now).await,
            other => other.map(|_| ()),
        }
    };
    if let Err(status) = told.await {
        tracing::warn!(%node, error = %status, "event about a second machine not recorded");
    }
}

async fn count(cluster: &Cluster, name: &str, text: &str, now: &str) -> Result<(), message::Status> {
    let path = lines::Event.path(EVENTS, name);
    let known = cluster.get(&path).await?.parse::<Value>().unwrap_or_default();
    let count = known["count"].as_u64().unwrap_or(0) + 1;
    let patch = json!({"count": count, "lastTimestamp": now, "message": text}).to_string();
    cluster.patch(&path, crate::kubernetes::Merge::Json, patch).await.map(|_| ())
}
