//! The objects of the scenarios.

use anyhow::Result;
use cloudcore::kubernetes::{Cluster, Merge};
use futures_util::{StreamExt, TryStreamExt, stream};
use message::{Json, Status};
use serde_json::{Value, json};

/// Requests under way at once.
pub(crate) const CONCURRENT: usize = 16;

const CORE: &str = "/api/v1";

/// Creates an object, or leaves the one that is there.
pub(crate) async fn ensure(cluster: &Cluster, collection: &str, object: &Value) -> Result<()> {
    match cluster.create(collection, &Json::encode(object)?).await {
        Err(status) if !status.is_conflict() => Err(status.into()),
        _ => Ok(()),
    }
}

pub(crate) async fn ensure_all(cluster: &Cluster, objects: Vec<(String, Value)>) -> Result<()> {
    stream::iter(objects.into_iter().map(Ok::<_, anyhow::Error>))
        .try_for_each_concurrent(CONCURRENT, |(collection, object)| async move {
            ensure(cluster, &collection, &object).await
        })
        .await
}

pub(crate) fn node(name: &str) -> (String, Value) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name,
        "labels": {"node-role.kubernetes.io/edge": ""}}});
    (format!("{CORE}/nodes"), node)
}

pub(crate) fn config_map(name: &str, text: &str) -> (String, Value) {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
        "data": {"text": text}});
    (format!("{CORE}/namespaces/default/configmaps"), map)
}

/// A pod on `node` that refers to config maps, so that the node gets them.
pub(crate) fn pod(name: &str, node: &str, config_maps: &[String]) -> (String, Value) {
    let sources: Vec<Value> = config_maps.iter().map(|name| json!({"configMap": {"name": name}})).collect();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "none"}],
            "volumes": [{"name": "all", "projected": {"sources": sources}}]}});
    (format!("{CORE}/namespaces/default/pods"), pod)
}

const DEVICES: &str = "/apis/devices.kubeedge.io/v1beta1/namespaces/default";

/// The model of [`device`].
pub(crate) fn device_model() -> (String, Value) {
    let model = json!({"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel",
        "metadata": {"name": "counter", "namespace": "default"},
        "spec": {"protocol": "none", "properties": [{"name": "n", "type": "INT", "accessMode": "ReadWrite"}]}});
    (format!("{DEVICES}/devicemodels"), model)
}

/// A device of `node` with one property, `n`.
pub(crate) fn device(name: &str, node: &str) -> (String, Value) {
    let device = json!({"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": node, "deviceModelRef": {"name": "counter"},
            "protocol": {"protocolName": "none"}, "properties": [{"name": "n"}]}});
    (format!("{DEVICES}/devices"), device)
}

/// Sets the text of a config map; gives its new version.
pub(crate) async fn patch(cluster: &Cluster, name: &str, text: &str) -> Result<String, Status> {
    let path = format!("{CORE}/namespaces/default/configmaps/{name}");
    let patch = json!({"data": {"text": text}}).to_string();
    let object = cluster.patch(&path, Merge::Json, patch).await?;
    let object: Value = object.parse().unwrap_or_default();
    Ok(object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned())
}

/// Patches many, concurrently.
pub(crate) async fn patch_all(cluster: &Cluster, names: &[String], text: &str) -> Result<()> {
    stream::iter(names)
        .map(|name| patch(cluster, name, text))
        .buffer_unordered(CONCURRENT)
        .try_for_each(|_| async { Ok(()) })
        .await
        .map_err(anyhow::Error::from)
}
