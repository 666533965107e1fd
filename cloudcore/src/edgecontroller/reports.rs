//! Whole statuses of edges that do not send patches yet: they take the place of what the API server has, but for what
//! others own (docs/protocol/edge-runtime.md 1.4; `cloud/pkg/edgecontroller/controller/upstream.go`).

use api::refused::SIGNED_BY;
use apimachinery::kinds::lines;
use jiff::{SignedDuration, Timestamp};
use message::{Json, NodeName, NodeReport, ObjectKey, ObjectKind, PodReport, Status};
use serde_json::{Value, json};

use super::{KubeletAddress, own};
use crate::kubernetes::Cluster;

/// How often a status is written again that another writer overtook.
const TRIES: usize = 4;
/// A node's sign of life that is older is given the cloud's time: edges may have no clock.
const STALE: SignedDuration = SignedDuration::from_secs(20);

/// Writes one pod's status. False if that pod is gone: the edge is to drop it.
pub(super) async fn report_pod(
    cluster: &Cluster,
    namespace: &str,
    report: &PodReport,
) -> Result<bool, Status> {
    let key = ObjectKey::new(Some(namespace), ObjectKind::Pod, &report.name);
    let path = key.api_path().ok_or_else(|| bad_request(format!("{key} cannot be a pod")))?;
    let mut status = object_of(&report.status)?;
    let mut tried = 0;
    let pod = loop {
        let mut pod: Value = match cluster.get(&path).await {
            Ok(pod) => pod.parse().map_err(bad_request)?,
            Err(status) if status.is_not_found() => return Ok(false),
            Err(status) => return Err(status),
        };
        if !report.uid.is_empty() && pod["metadata"]["uid"] != report.uid.as_str() {
            return Ok(false);
        }
        keep_times(&pod["status"], &mut status, daemon::clock::now());
        pod["status"] = status.clone();
        tried += 1;
        match cluster.replace(&format!("{path}/status"), &Json::of(&pod)).await {
            Ok(_) => break pod,
            Err(status) if status.is_not_found() => return Ok(false),
            Err(status) if status.is_conflict() && tried < TRIES => {}
            Err(status) => return Err(status),
        }
    };
    if is_over(&pod) {
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}});
        match cluster.delete(&path, &Json::of(&options)).await {
            Err(status) if !status.is_not_found() && !status.is_conflict() => return Err(status),
            _ => {}
        }
    }
    Ok(true)
}

/// Creates the node unless it is there.
pub(super) async fn ensure_node(
    cluster: &Cluster,
    kubelets: Option<&KubeletAddress>,
    node: &NodeName,
    object: &Json,
) -> Result<(), Status> {
    let mut object = own::own_labels(object, node)?;
    kubelets.iter().for_each(|address| address.put(node.as_str(), &mut object));
    let object = own::named(object, node.as_str())?;
    match cluster.create(&lines::Node.path(None, ""), &object).await {
        Err(status) if !status.is_conflict() => Err(status),
        _ => Ok(()),
    }
}

/// Writes the node's status.
pub(super) async fn report_node(
    cluster: &Cluster,
    kubelets: Option<&KubeletAddress>,
    node: &NodeName,
    report: &NodeReport,
) -> Result<(), Status> {
    let path = lines::Node.path(None, node.as_str());
    let status = object_of(&report.status)?;
    let mut tried = 0;
    loop {
        let mut object: Value = cluster.get(&path).await?.parse().map_err(bad_request)?;
        let resources = report.extend_resources.iter().flatten();
        for (name, resources) in resources.filter(|(name, _)| *name != SIGNED_BY) {
            object["metadata"]["annotations"][name.as_str()] = resources.text().into();
        }
        object["status"] = merged(&object["status"], status.clone(), daemon::clock::now());
        kubelets.iter().for_each(|address| address.put(node.as_str(), &mut object));
        tried += 1;
        match cluster.replace(&format!("{path}/status"), &Json::of(&object)).await {
            Ok(_) => return Ok(()),
            Err(status) if status.is_conflict() && tried < TRIES => {}
            Err(status) => return Err(status),
        }
    }
}

/// When a pod started and when a condition changed does not depend on how often it is told.
fn keep_times(old: &Value, new: &mut Value, now: Timestamp) {
    let now = daemon::clock::rfc3339(now);
    match (&old["startTime"], &new["startTime"]) {
        (Value::String(started), _) => new["startTime"] = started.as_str().into(),
        (_, Value::Null) => new["startTime"] = now.as_str().into(),
        _ => {}
    }
    for condition in conditions_of(new) {
        if condition["type"] != "Ready" && condition["type"] != "Initialized" {
            continue;
        }
        let same =
            |other: &&Value| other["type"] == condition["type"] && other["status"] == condition["status"];
        let before = old["conditions"].as_array().into_iter().flatten().find(same);
        let since = before.and_then(|before| before["lastTransitionTime"].as_str()).unwrap_or(&now);
        condition["lastTransitionTime"] = since.into();
    }
}

/// What the node says, with what is not the node's to say.
fn merged(old: &Value, mut new: Value, now: Timestamp) -> Value {
    if let Some(fields) = new.as_object_mut() {
        fields.remove("volumesAttached");
        let attached =
            old.get("volumesAttached").map(|attached| ("volumesAttached".to_owned(), attached.clone()));
        fields.extend(attached);
    }
    // What CloudCore says of the node's link is not the node's to say.
    let told = old["conditions"].as_array().into_iter().flatten();
    let links: Vec<Value> = told.filter(|condition| condition["type"] == "EdgeLink").cloned().collect();
    if let Some(conditions) = new.get_mut("conditions").and_then(Value::as_array_mut) {
        conditions.retain(|condition| condition["type"] != "EdgeLink");
        conditions.extend(links);
    }
    let port = &old["daemonEndpoints"]["kubeletEndpoint"]["Port"];
    if port.as_i64().is_some_and(|port| port != 0) {
        new["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": port}});
    }
    for condition in conditions_of(&mut new) {
        let told = condition["lastHeartbeatTime"].as_str().and_then(|told| told.parse::<Timestamp>().ok());
        if told.is_none_or(|told| now.duration_since(told) > STALE) {
            condition["lastHeartbeatTime"] = daemon::clock::rfc3339(now).into();
        }
    }
    new
}

fn conditions_of(status: &mut Value) -> impl Iterator<Item = &mut Value> {
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    conditions.into_iter().flatten().filter(|condition| condition.is_object())
}

fn object_of(status: &Json) -> Result<Value, Status> {
    let status: Value = status.parse().map_err(bad_request)?;
    if status.is_object() { Ok(status) } else { Err(bad_request("the status is not an object")) }
}

/// True for a pod that was deleted, has ended and runs nothing.
fn is_over(pod: &Value) -> bool {
    let status = &pod["status"];
    let running = |container: &Value| !container["state"]["running"].is_null();
    pod["metadata"]["deletionTimestamp"].is_string()
        && (status["phase"] == "Succeeded" || status["phase"] == "Failed")
        && !status["containerStatuses"].as_array().into_iter().flatten().any(running)
}

fn bad_request(error: impl ToString) -> Status {
    Status::new(400, "BadRequest", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_and_change_are_told_once() {
        let old = json!({
            "startTime": "2026-01-01T00:00:00Z",
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z"},
                {"type": "Initialized", "status": "False", "lastTransitionTime": "2026-01-01T00:00:01Z"},
            ],
        });
        let mut new = json!({
            "startTime": "2026-03-03T00:00:00Z",
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}],
        });
        let now: Timestamp = "2026-02-02T00:00:00Z".parse().unwrap();
        keep_times(&old, &mut new, now);
        assert_eq!(new["startTime"], "2026-01-01T00:00:00Z");
        assert_eq!(new["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:05Z");
        assert_eq!(new["conditions"][1]["lastTransitionTime"], "2026-02-02T00:00:00Z");
        let mut first = json!({"phase": "Pending"});
        keep_times(&Value::Null, &mut first, now);
        assert_eq!(first, json!({"phase": "Pending", "startTime": "2026-02-02T00:00:00Z"}));
    }

    #[test]
    fn a_node_keeps_what_others_own_and_gets_a_clock() {
        let old = json!({
            "volumesAttached": [{"name": "v"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10351}},
            "capacity": {"cpu": "1"},
        });
        let new = json!({
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10350}},
            "conditions": [
                {"type": "Ready", "lastHeartbeatTime": "1970-01-01T00:00:00Z"},
                {"type": "DiskPressure", "lastHeartbeatTime": "2026-02-01T23:59:55Z"},
            ],
        });
        let merged = merged(&old, new, "2026-02-02T00:00:00Z".parse().unwrap());
        assert_eq!(merged["volumesAttached"], old["volumesAttached"]);
        assert_eq!(merged["daemonEndpoints"]["kubeletEndpoint"]["Port"], 10351);
        assert!(merged["capacity"].is_null());
        assert_eq!(merged["conditions"][0]["lastHeartbeatTime"], "2026-02-02T00:00:00Z");
        assert_eq!(merged["conditions"][1]["lastHeartbeatTime"], "2026-02-01T23:59:55Z");
    }

    #[test]
    fn a_status_of_nonsense_is_refused_and_harms_nothing() {
        assert!(object_of(&Json::string("x")).is_err() && object_of(&Json::null()).is_err());
        let old = json!({"daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}, "volumesAttached": 7});
        let now: Timestamp = "2026-02-02T00:00:00Z".parse().unwrap();
        for conditions in [json!("x"), json!(["x", 7, null, []]), json!([{"type": 7}]), json!({})] {
            let mut new = json!({"conditions": conditions, "startTime": [], "daemonEndpoints": "x"});
            keep_times(&old, &mut new, now);
            merged(&old, new, now);
        }
    }

    #[test]
    fn only_a_deleted_pod_that_ended_is_over() {
        let pod = |deleted: Value, phase: &str, state: &str| {
            json!({"metadata": {"deletionTimestamp": deleted},
                   "status": {"phase": phase, "containerStatuses": [{"state": {state: {}}}]}})
        };
        assert!(is_over(&pod("t".into(), "Failed", "terminated")));
        assert!(!is_over(&pod("t".into(), "Failed", "running")));
        assert!(!is_over(&pod("t".into(), "Running", "terminated")));
        assert!(!is_over(&pod(Value::Null, "Failed", "terminated")));
    }
}
