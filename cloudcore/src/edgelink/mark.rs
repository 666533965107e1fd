//! What a node object says of its link: a condition, and a taint while the link is lost.

use apimachinery::kinds::lines;
use message::{NodeName, Status};
use serde_json::{Value, json};

use crate::kubernetes::{Cluster, Merge};

const CONDITION: &str = "EdgeLink";
/// Keeps new pods from a node that would not hear of them. Those it has stay.
const TAINT: &str = "causeway.io/link-lost";
/// A node object without any of them says nothing of its link.
pub(super) const WORDS: [&str; 2] = [CONDITION, TAINT];
/// Tries of a change that others' writes overtake.
const TRIES: usize = 4;

pub(super) async fn up(cluster: &Cluster, node: &NodeName) -> Result<(), Status> {
    taint(cluster, node, false).await?;
    tell(cluster, node, "True", "SessionUp", "the node has a session with CloudCore").await
}

/// `renewed`: when the node renewed its lease, by its own clock.
pub(super) async fn lost(cluster: &Cluster, node: &NodeName, renewed: Option<&str>) -> Result<(), Status> {
    let heard = match renewed {
        Some(renewed) => format!("it renewed its lease at {renewed}"),
        None => "it has no lease".to_owned(),
    };
    let message = format!("the node's session with CloudCore has ended and no other has begun; {heard}");
    tell(cluster, node, "False", "SessionLost", &message).await?;
    taint(cluster, node, true).await
}

pub(super) fn says_lost(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    let mut links = conditions.filter(|condition| condition["type"] == CONDITION);
    links.any(|condition| condition["status"] == "False")
}

pub(super) fn is_tainted(node: &Value) -> bool {
    node["spec"]["taints"].as_array().into_iter().flatten().any(|taint| taint["key"] == TAINT)
}

async fn tell(
    cluster: &Cluster,
    node: &NodeName,
    status: &str,
    reason: &str,
    message: &str,
) -> Result<(), Status> {
    let now = daemon::clock::rfc3339(daemon::clock::now());
    let patch = json!({"status": {"conditions": [{
        "type": CONDITION, "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    }]}});
    let path = format!("{}/status", path(node));
    match cluster.patch(&path, Merge::Strategic, patch.to_string()).await {
        Err(status) if !status.is_not_found() => Err(status),
        _ => Ok(()),
    }
}

async fn taint(cluster: &Cluster, node: &NodeName, is_lost: bool) -> Result<(), Status> {
    let mut tried = 1;
    loop {
        let object: Value = match cluster.get(&path(node)).await {
            Ok(object) => object.parse().map_err(|error| Status::internal(error.to_string()))?,
            Err(status) if status.is_not_found() => return Ok(()),
            Err(status) => return Err(status),
        };
        let now = daemon::clock::rfc3339(daemon::clock::now());
        let Some(patch) = patch(&object, is_lost, &now) else { return Ok(()) };
        match cluster.patch(&path(node), Merge::Json, patch.to_string()).await {
            Err(status) if status.is_not_found() => return Ok(()),
            Err(status) if status.is_conflict() && tried < TRIES => tried += 1,
            result => return result.map(drop),
        }
    }
}

/// The merge patch that makes the taint be there or not. `None`: it is so.
fn patch(node: &Value, is_lost: bool, now: &str) -> Option<Value> {
    if is_tainted(node) == is_lost {
        return None;
    }
    let mut taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    match is_lost {
        true => taints.push(json!({"key": TAINT, "effect": "NoSchedule", "timeAdded": now})),
        false => taints.retain(|taint| taint["key"] != TAINT),
    }
    // Taints are one list: another's change of it must not be lost.
    Some(
        json!({"metadata": {"resourceVersion": node["metadata"]["resourceVersion"]}, "spec": {"taints": taints}}),
    )
}

fn path(node: &NodeName) -> String {
    lines::Node.path(None, node.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_taint_comes_and_goes_and_others_stay() {
        let mut node = json!({"metadata": {"resourceVersion": "7"}, "spec": {"taints": [{"key": "mine", "effect": "NoExecute"}]}});
        let lost = patch(&node, true, "2026-11-30T03:00:00Z").unwrap();
        assert_eq!(lost["metadata"]["resourceVersion"], "7");
        assert_eq!(lost["spec"]["taints"].as_array().unwrap().len(), 2);
        assert_eq!(lost["spec"]["taints"][1]["effect"], "NoSchedule");
        assert_eq!(patch(&node, false, "now"), None);
        node["spec"] = lost["spec"].clone();
        assert_eq!(patch(&node, true, "now"), None);
        let up = patch(&node, false, "now").unwrap();
        assert_eq!(up["spec"]["taints"], json!([{"key": "mine", "effect": "NoExecute"}]));
        assert_eq!(patch(&json!({"spec": {}}), false, "now"), None);
    }
}
