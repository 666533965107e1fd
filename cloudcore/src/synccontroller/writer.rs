//! Writes one record.

use api::reliablesyncs::{GROUP, NEVER, VERSION, name};
use apimachinery::kinds::KindInfo;
use message::{Json, ObjectKey, Status};
use serde_json::json;

use crate::desired::Settled;
use crate::kubernetes::{Cluster, Merge};

pub(super) async fn write(cluster: &Cluster, node: String, settled: Settled) {
    let key = settled.key.clone();
    if let Err(status) = try_write(cluster, &node, settled).await {
        tracing::warn!(%node, object = %key, error = %status, "could not record an acknowledgement");
    }
}

async fn try_write(cluster: &Cluster, node: &str, settled: Settled) -> Result<(), Status> {
    let (kind, scope) = match &settled.key.namespace {
        Some(namespace) => ("ObjectSync", format!("/namespaces/{namespace}/objectsyncs")),
        None => ("ClusterObjectSync", "/clusterobjectsyncs".to_owned()),
    };
    let collection = format!("/apis/{GROUP}/{VERSION}{scope}");
    let name = name(node, &settled.uid);
    let path = format!("{collection}/{name}");
    let Some(version) = settled.version else {
        return match cluster.delete(&path, &Json::null()).await {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(()),
        };
    };
    let patch = json!({"status": {"objectResourceVersion": version.0}}).to_string();
    let status_path = format!("{path}/status");
    match cluster.patch(&status_path, Merge::Json, patch.clone()).await {
        Err(status) if status.is_not_found() => {}
        other => return other.map(|_| ()),
    }
    let record = record(kind, &name, &settled.key);
    match cluster.create(&collection, &record).await {
        Err(status) if !status.is_conflict() => return Err(status),
        _ => {}
    }
    cluster.patch(&status_path, Merge::Json, patch).await.map(|_| ())
}

fn record(kind: &str, name: &str, object: &ObjectKey) -> Json {
    let info = object.kind.info();
    let value = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": kind,
        "metadata": {"name": name, "namespace": object.namespace},
        "spec": {
            "objectAPIVersion": info.map(KindInfo::api_version).unwrap_or_default(),
            "objectKind": info.map_or("", |info| info.kind),
            "objectName": object.name,
        },
        "status": {"objectResourceVersion": NEVER},
    });
    Json::of(&value)
}
