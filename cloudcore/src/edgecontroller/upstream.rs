//! Requests and events of edges, carried out in the API server. Every request gets an answer with a real status
//! (spec/edge-runtime.md 1.4, its "Better" lines).

use message::{Json, NodeName, ObjectKey, ObjectKind, PodReport, Reply, Request, Status, Upstream, Verb};
use serde_json::{Value, json};

use super::{Downstream, reports};
use crate::kubernetes::{Cluster, Merge, path_of};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// Carries out one request of `node`.
pub async fn answer(cluster: &Cluster, room: &Downstream, node: &NodeName, request: &Request) -> Reply {
    carry_out(cluster, room, node, request).await.unwrap_or_else(Reply::Refused)
}

/// Each report for itself; the answer is that of the first that failed. A pod that is gone is taken from the node.
async fn report_pods(
    cluster: &Cluster,
    room: &Downstream,
    node: &NodeName,
    namespace: &str,
    reports: &[PodReport],
) -> Result<Reply, Status> {
    let mut result = Ok(Reply::Done);
    for report in reports {
        match reports::report_pod(cluster, namespace, report).await {
            Ok(true) => {}
            Ok(false) => room.tell_gone(node.as_str(), namespace, &report.name, &report.uid),
            Err(status) => result = result.and(Err(status)),
        }
    }
    result
}

async fn carry_out(
    cluster: &Cluster,
    room: &Downstream,
    node: &NodeName,
    request: &Request,
) -> Result<Reply, Status> {
    let object = match request {
        Request::Get { key } => cluster.get(&path(key)?).await?,
        Request::CreateNode { object, .. } => cluster.create("/api/v1/nodes", object).await?,
        Request::UpdateNode { node, object } => {
            let patch = labels_and_annotations(object)?;
            cluster.patch(&format!("/api/v1/nodes/{node}"), Merge::Strategic, patch).await?;
            return Ok(Reply::Done);
        }
        Request::PatchNodeStatus { node, patch } => {
            cluster.patch(&format!("/api/v1/nodes/{node}/status"), Merge::Strategic, patch.clone()).await?
        }
        Request::PatchPodStatus { namespace, name, patch } => {
            let path = path(&ObjectKey::new(Some(namespace), ObjectKind::Pod, name))?;
            cluster.patch(&format!("{path}/status"), Merge::Strategic, patch.clone()).await?
        }
        Request::CreatePod { namespace, object, .. } => {
            cluster.create(&path(&ObjectKey::new(Some(namespace), ObjectKind::Pod, ""))?, object).await?
        }
        Request::DeletePod { namespace, name, options } => {
            let path = path(&ObjectKey::new(Some(namespace), ObjectKind::Pod, name))?;
            return match cluster.delete(&path, options).await {
                // Gone already, or another pod took the name: what the edge wanted is so.
                Err(status) if !status.is_not_found() && !status.is_conflict() => Err(status),
                _ => Ok(Reply::Done),
            };
        }
        Request::Token { namespace, service_account, request } => {
            let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token");
            cluster.create(&path, request).await?
        }
        Request::Lease { verb: Verb::Create, object, .. } => cluster.create(LEASES, object).await?,
        Request::Lease { node, object, .. } => cluster.replace(&format!("{LEASES}/{node}"), object).await?,
        Request::CreateSigningRequest { object, .. } => {
            let key = ObjectKey::new(None, ObjectKind::CertificateSigningRequest, "");
            cluster.create(&path(&key)?, object).await?
        }
        Request::ClusterCa if cluster.ca().is_empty() => {
            Err(Status::failure(404, "NotFound", "the API server is trusted by the system's certificates"))?
        }
        Request::ClusterCa => return Ok(Reply::Text(cluster.ca().to_owned())),
        Request::EnsureNode { node, object } => {
            return reports::ensure_node(cluster, node, object).await.map(|()| Reply::Done);
        }
        Request::ReportNode { node, report } => {
            return reports::report_node(cluster, node, report).await.map(|()| Reply::Done);
        }
        Request::ReportPods { namespace, reports } => {
            return report_pods(cluster, room, node, namespace, reports).await;
        }
    };
    Ok(Reply::Object(object))
}

/// Writes one event. Failures are logged by the caller; events are never answered.
pub async fn record(cluster: &Cluster, event: &Upstream) -> Result<(), Status> {
    let Upstream::Event { namespace, name, verb, object } = event else { return Ok(()) };
    let one = path(&ObjectKey::new(Some(namespace), ObjectKind::Event, name))?;
    let all = path(&ObjectKey::new(Some(namespace), ObjectKind::Event, ""))?;
    match verb {
        Verb::Create => match cluster.create(&all, object).await {
            Err(status) if !status.is_conflict() => Err(status),
            _ => Ok(()),
        },
        Verb::Update => match cluster.replace(&one, object).await {
            Err(status) if status.is_not_found() => cluster.create(&all, object).await.map(|_| ()),
            other => other.map(|_| ()),
        },
        Verb::Patch => {
            let wrapped: Value = object.parse().map_err(|error| bad_request(&error.to_string()))?;
            let patch = wrapped["patchData"].as_str().unwrap_or("{}").to_owned();
            match cluster.patch(&one, Merge::Strategic, patch).await {
                Err(status) if status.is_not_found() => {
                    let event =
                        Json::encode(&wrapped["event"]).map_err(|error| bad_request(&error.to_string()))?;
                    cluster.create(&all, &event).await.map(|_| ())
                }
                other => other.map(|_| ()),
            }
        }
    }
}

fn path(key: &ObjectKey) -> Result<String, Status> {
    path_of(key).ok_or_else(|| bad_request(&format!("{} objects are not served", key.kind)))
}

fn bad_request(text: &str) -> Status {
    Status::failure(400, "BadRequest", text)
}

/// The part of a node object that an edge may change besides its status.
fn labels_and_annotations(object: &Json) -> Result<String, Status> {
    let node: Value = object.parse().map_err(|error| bad_request(&error.to_string()))?;
    let metadata = &node["metadata"];
    Ok(json!({"metadata": {"labels": metadata["labels"], "annotations": metadata["annotations"]}})
        .to_string())
}
