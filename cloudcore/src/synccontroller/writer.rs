//! Writes one record.

use api::reliablesyncs::{NEVER, name};
use apimachinery::kinds::{KindInfo, lines};
use message::{Json, ObjectKey, Status};
use serde_json::json;

use crate::desired::Settled;
use crate::kubernetes::{Cluster, Merge};

/// True if it is written. Who `waits` for it tells of a failure, which may come again and again.
pub(super) async fn write(cluster: &Cluster, node: &str, settled: Settled, waits: bool) -> bool {
    let key = settled.key.clone();
    match try_write(cluster, node, settled).await {
        Ok(()) => true,
        Err(status) if waits => {
            tracing::debug!(%node, object = %key, error = %status, "a record that is waited for was not written");
            false
        }
        Err(status) => {
            tracing::warn!(%node, object = %key, error = %status, "could not record an acknowledgement");
            false
        }
    }
}

async fn try_write(cluster: &Cluster, node: &str, settled: Settled) -> Result<(), Status> {
    let namespace = settled.key.namespace.as_deref();
    let line = if namespace.is_some() { &lines::ObjectSync } else { &lines::ClusterObjectSync };
    let name = name(node, &settled.uid);
    let path = line.path(namespace, &name);
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
    let record = record(line, &name, &settled.key);
    match cluster.create(&line.path(namespace, ""), &record).await {
        Err(status) if !status.is_conflict() => return Err(status),
        _ => {}
    }
    cluster.patch(&status_path, Merge::Json, patch).await.map(|_| ())
}

fn record(line: &KindInfo, name: &str, object: &ObjectKey) -> Json {
    let info = object.kind.info();
    let value = json!({
        "apiVersion": line.api_version(),
        "kind": line.kind,
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
