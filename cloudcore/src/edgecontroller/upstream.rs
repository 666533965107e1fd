//! Requests and events of edges, carried out in the API server. Every request gets an answer with a real status
//! (docs/protocol/edge-runtime.md 1.4, its "Better" lines).

use apimachinery::kinds::{NODE_LEASES, lines};
use message::{NodeName, ObjectKey, ObjectKind, PodReport, Reply, Request, Status, Verb};
use serde_json::Value;

use super::own::{bad_request, json_of, labels_and_annotations, named, own_labels, status_only};
use super::{Downstream, KubeletAddress, reports};
use crate::kubernetes::{Cluster, Merge};

/// Carries out one request of `node`. `kubelets` is where API servers reach nodes, if not at their own addresses.
pub async fn answer(
    cluster: &Cluster,
    room: &Downstream,
    kubelets: Option<&KubeletAddress>,
    node: &NodeName,
    request: &Request,
) -> Reply {
    carry_out(cluster, room, kubelets, node, request).await.unwrap_or_else(Reply::Refused)
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
    kubelets: Option<&KubeletAddress>,
    node: &NodeName,
    request: &Request,
) -> Result<Reply, Status> {
    let told = |mut object: Value| {
        kubelets.iter().for_each(|address| address.put(node.as_str(), &mut object));
        object
    };
    let object = match request {
        Request::Get { key } => cluster.get(&path(key)?).await?,
        Request::CreateNode { node, object } => {
            let object = named(told(own_labels(object, node)?), node.as_str())?;
            cluster.create(&lines::Node.path(None, ""), &object).await?
        }
        Request::UpdateNode { node, object } => {
            let patch = labels_and_annotations(object, node)?;
            cluster.patch(&lines::Node.path(None, node.as_str()), Merge::Strategic, patch).await?;
            return Ok(Reply::Done);
        }
        Request::PatchNodeStatus { node, patch } => {
            let patch = told(own_labels(&json_of(patch)?, node)?).to_string();
            cluster
                .patch(&format!("{}/status", lines::Node.path(None, node.as_str())), Merge::Strategic, patch)
                .await?
        }
        Request::PatchPodStatus { namespace, name, patch } => {
            let path = path(&ObjectKey::new(Some(namespace), ObjectKind::Pod, name))?;
            cluster.patch(&format!("{path}/status"), Merge::Strategic, status_only(patch)?).await?
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
            let account = lines::ServiceAccount.path(Some(namespace), service_account);
            let path = format!("{account}/token");
            cluster.create(&path, request).await?
        }
        Request::Lease { node, verb: Verb::Create, object } => {
            let lease = object.parse().map_err(|error| bad_request(&error.to_string()))?;
            cluster.create(&lines::Lease.path(Some(NODE_LEASES), ""), &named(lease, node.as_str())?).await?
        }
        Request::Lease { node, object, .. } => {
            cluster.replace(&lines::Lease.path(Some(NODE_LEASES), node.as_str()), object).await?
        }
        Request::CreateSigningRequest { object, .. } => {
            let key = ObjectKey::new(None, ObjectKind::CertificateSigningRequest, "");
            cluster.create(&path(&key)?, object).await?
        }
        Request::ClusterCa if cluster.ca().is_empty() => {
            Err(Status::new(404, "NotFound", "the API server is trusted by the system's certificates"))?
        }
        Request::ClusterCa => return Ok(Reply::Text(cluster.ca().to_owned())),
        Request::EnsureNode { node, object } => {
            return reports::ensure_node(cluster, kubelets, node, object).await.map(|()| Reply::Done);
        }
        Request::ReportNode { node, report } => {
            return reports::report_node(cluster, kubelets, node, report).await.map(|()| Reply::Done);
        }
        Request::ReportPods { namespace, reports } => {
            return report_pods(cluster, room, node, namespace, reports).await;
        }
    };
    Ok(Reply::Object(object))
}

fn path(key: &ObjectKey) -> Result<String, Status> {
    key.api_path().ok_or_else(|| bad_request(&format!("{} objects are not served", key.kind)))
}
