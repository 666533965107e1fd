//! What the embedded API server has for CloudCore before it starts: what `keadm init` or the chart puts into a cluster. CloudCore
//! then has the rights of its service account there too, and no more.

use std::path::{Path, PathBuf};

use apimachinery::kinds::{KINDS, KindInfo};
use message::{Json, Status};
use serde_json::{Value, json};

use crate::kubernetes::{Cluster, ConnectError, InstallError, Merge, install_crds};

/// The user that CloudCore is, as in a cluster.
const USER: &str = "system:serviceaccount:kubeedge:cloudcore";
const GROUPS: [&str; 2] = ["system:serviceaccounts", "system:serviceaccounts:kubeedge"];

#[derive(Debug, thiserror::Error)]
pub enum FurnishError {
    #[error("connecting to the embedded API server")]
    Connect(#[from] ConnectError),
    #[error("installing custom resource definitions in the embedded API server")]
    Definitions(#[from] InstallError),
    #[error("writing {kind} {name} into the embedded API server")]
    Object { kind: String, name: String, source: Status },
    #[error("{kind} is no kind that the embedded API server has")]
    Kind { kind: String },
}

/// CloudCore as a client of the embedded API server; its kubeconfig lies in the server's folder.
pub fn client(data_dir: &Path) -> apiserver::Client {
    apiserver::Client {
        name: USER.to_owned(),
        groups: GROUPS.map(str::to_owned).to_vec(),
        kubeconfig: kubeconfig(data_dir),
    }
}

fn kubeconfig(data_dir: &Path) -> PathBuf {
    data_dir.join("cloudcore.kubeconfig")
}

/// Makes or mends the definitions, the namespace, the service account, its roles and the empty configurations of webhooks with
/// the rights of `admin`, and answers the cluster as CloudCore has it.
///
/// # Errors
/// What was written, and what the API server said.
pub async fn furnish(
    admin: &Path,
    data_dir: &Path,
    parts: manifests::Parts,
) -> Result<Cluster, FurnishError> {
    let cluster = Cluster::connect(Some(admin.to_owned()), "").await?;
    install_crds(&cluster).await?;
    let of_nodes = if parts.node_identity { rights_of_nodes() } else { Vec::new() };
    for object in manifests::rights(parts).into_iter().chain(of_nodes) {
        put(&cluster, &object).await?;
    }
    Ok(Cluster::connect(Some(kubeconfig(data_dir)), "").await?)
}

/// What nodes may do there that ask as themselves: the embedded API server has no Node authorizer, and nobody but CloudCore can
/// ask as a node, which lets each have its own only (`dynamiccontroller/node_requests`).
fn rights_of_nodes() -> Vec<Value> {
    const NAME: &str = "causeway:nodes";
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({ "apiGroups": [group], "resources": resources, "verbs": verbs });
    const READ: &[&str] = &["get", "list", "watch"];
    const WRITE: &[&str] = &["create", "update", "patch"];
    let rules = [
        rule("", &["nodes", "pods", "services", "endpoints", "configmaps", "secrets"], READ),
        rule("", &["nodes", "events"], WRITE),
        rule("events.k8s.io", &["events"], WRITE),
        rule("", &["pods"], &["create", "delete"]),
        rule("", &["nodes/status", "pods/status"], &["get", "update", "patch"]),
        rule("", &["persistentvolumeclaims", "persistentvolumes"], &["get"]),
        rule("", &["serviceaccounts/token"], &["create"]),
        rule("coordination.k8s.io", &["leases"], &["get", "create", "update", "patch"]),
        rule("discovery.k8s.io", &["endpointslices"], READ),
        rule("storage.k8s.io", &["csidrivers", "csinodes"], READ),
        rule("storage.k8s.io", &["csinodes"], WRITE),
        rule("node.k8s.io", &["runtimeclasses"], READ),
        rule("certificates.k8s.io", &["certificatesigningrequests"], &["create", "get", "list", "watch"]),
    ];
    let rbac = "rbac.authorization.k8s.io";
    vec![
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": NAME }, "rules": rules }),
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": NAME },
            "roleRef": { "apiGroup": rbac, "kind": "ClusterRole", "name": NAME },
            "subjects": [{ "apiGroup": rbac, "kind": "Group", "name": pki::NODES_GROUP }] }),
    ]
}

async fn put(cluster: &Cluster, object: &Value) -> Result<(), FurnishError> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    let line = line(object).ok_or_else(|| FurnishError::Kind { kind: kind.clone() })?;
    let namespace = object["metadata"]["namespace"].as_str();
    let written = match cluster.create(&line.path(namespace, ""), &Json::of(object)).await {
        // What others have added stays.
        Err(status) if status.is_conflict() => {
            cluster.patch(&line.path(namespace, &name), Merge::Json, object.to_string()).await
        }
        other => other,
    };
    written.map(drop).map_err(|source| FurnishError::Object { kind, name, source })
}

fn line(object: &Value) -> Option<&'static KindInfo> {
    let is_it =
        |info: &KindInfo| object["kind"] == info.kind && object["apiVersion"] == *info.api_version().as_str();
    KINDS.iter().map(|(_, info)| *info).find(|info| is_it(info))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_that_cloudcore_needs_has_a_path() {
        for object in
            manifests::rights(manifests::Parts { streams: true, webhooks: true, node_identity: true })
        {
            assert!(line(&object).is_some(), "{object}");
        }
    }
}
