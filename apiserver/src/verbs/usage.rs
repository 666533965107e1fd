//! `metrics.k8s.io/v1beta1`: what nodes and pods use, for `kubectl top` and autoscalers. Nothing is stored: each node that is asked
//! about is asked, as metrics-server does it, and as often.

use apimachinery::listing::Asked as _;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::object::text;
use apimachinery::path::ResourcePath;
use apimachinery::{LabelSelector, Status};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::header::{HOST, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use kubeapi::registry::Computed;
use kubeapi::request::Query;
use kubeapi::respond::{self, Answer};
use kubeapi::stored::{Key, ListQuery};
use serde_json::{Value, json};

use crate::context::Context;
use crate::usage::{PodRef, PodUsage, Summary};

const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";
/// What there is.
pub(crate) const RESOURCES: [Computed; 2] =
    [of("nodes", "NodeMetrics", false), of("pods", "PodMetrics", true)];

const fn of(plural: &'static str, kind: &'static str, namespaced: bool) -> Computed {
    Computed {
        group: GROUP,
        version: VERSION,
        plural,
        singular: "",
        kind,
        namespaced,
        verbs: &["get", "list"],
    }
}

/// How long a node may take; one that takes longer is left out, as with metrics-server.
const ANSWER: Duration = Duration::from_secs(10);
/// Nodes asked at once.
const AT_ONCE: usize = 32;
/// What is read of a node's answer.
const SUMMARY: usize = 4 * 1024 * 1024;
/// The time over which a node takes the mean of its processor's use.
const WINDOW: &str = "10s";

pub(crate) async fn answer(
    context: &Context,
    path: &ResourcePath,
    query: &Query,
    method: &Method,
) -> Result<Answer, Status> {
    let known = RESOURCES.iter().find(|one| one.plural == path.resource);
    let &Computed { plural, kind, namespaced, .. } =
        known.filter(|_| path.subresource.is_empty()).ok_or_else(Status::no_such_path)?;
    if !namespaced && !path.namespace.is_empty() {
        return Err(Status::no_such_path());
    }
    if method != Method::GET || query.flag("watch") {
        return Err(Status::method_not_allowed());
    }
    let selector = LabelSelector::parse(query.get("labelSelector"));
    let selector = selector.map_err(|error| Status::bad_request(error.to_string()))?;
    let objects = objects(context, path, selector).await?;
    let items = match plural {
        "nodes" => of_nodes(context, &objects).await,
        _ => of_pods(context, &objects).await?,
    };
    if path.name.is_empty() {
        let list = json!({"kind": format!("{kind}List"), "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": {}, "items": items});
        return Ok(respond::json(200, &list));
    }
    let item = items.into_iter().next().ok_or_else(|| Status::not_found(GROUP, plural, &path.name))?;
    Ok(respond::json(200, &item))
}

/// Nodes or pods that are asked about.
async fn objects(
    context: &Context,
    path: &ResourcePath,
    labels: LabelSelector,
) -> Result<Vec<Value>, Status> {
    if !path.name.is_empty() {
        let stored = context.storage.get(&Key::new(&path.resource, &path.namespace, &path.name)).await?;
        return stored.iter().map(|stored| stored.value()).collect();
    }
    let namespace = Some(path.namespace.clone()).filter(|namespace| !namespace.is_empty());
    let query = ListQuery { resource: path.resource.clone(), namespace, labels, ..ListQuery::default() };
    context.storage.list(query).await?.items.iter().map(|stored| stored.value()).collect()
}

async fn of_nodes(context: &Context, nodes: &[Value]) -> Vec<Value> {
    let told = all(context, nodes.iter()).await;
    let told = told.into_iter().filter_map(|(node, summary)| {
        let usage = &summary.node;
        Some(item("NodeMetrics", node, &usage.cpu.time, ("usage", usage.amounts()?)))
    });
    told.collect()
}

async fn of_pods(context: &Context, pods: &[Value]) -> Result<Vec<Value>, Status> {
    let mut nodes = HashMap::new();
    for pod in pods {
        let node = text(pod, "/spec/nodeName");
        if !node.is_empty() && !nodes.contains_key(node) {
            let stored = context.storage.get(&Key::new("nodes", "", node)).await?;
            nodes.insert(node, stored.map(|stored| stored.value()).transpose()?);
        }
    }
    let told = all(context, nodes.values().flatten()).await;
    let mut used = HashMap::new();
    for (node, summary) in &told {
        // A node tells of its own pods.
        let node = text(node, "/metadata/name");
        used.extend(summary.pods.iter().map(|pod| ((node, pod.pod_ref.uid.as_str()), pod)));
    }
    let items = pods.iter().filter_map(|pod| {
        let place = (text(pod, "/spec/nodeName"), text(pod, "/metadata/uid"));
        pod_item(pod, used.get(&place)?)
    });
    Ok(items.collect())
}

/// What those nodes tell that can be asked now, in their order.
async fn all<'a>(
    context: &'a Context,
    nodes: impl Iterator<Item = &'a Value>,
) -> Vec<(&'a Value, Arc<Summary>)> {
    let ask = |node: &'a Value| -> BoxFuture<'a, Option<(&'a Value, Arc<Summary>)>> {
        async move { Some((node, summary(context, node).await?)) }.boxed()
    };
    let asked: Vec<_> = nodes.map(ask).collect();
    stream::iter(asked).buffered(AT_ONCE).collect::<Vec<_>>().await.into_iter().flatten().collect()
}

fn pod_item(pod: &Value, usage: &PodUsage) -> Option<Value> {
    let PodRef { name, namespace, .. } = &usage.pod_ref;
    if name != text(pod, "/metadata/name") || namespace != text(pod, "/metadata/namespace") {
        return None;
    }
    let containers = usage.containers.iter();
    let containers: Option<Vec<Value>> = containers
        .map(|container| Some(json!({"name": container.name, "usage": container.usage.amounts()?})))
        .collect();
    let time = usage.containers.first().map_or("", |container| container.usage.cpu.time.as_str());
    Some(item("PodMetrics", pod, time, ("containers", json!(containers.filter(|all| !all.is_empty())?))))
}

fn item(kind: &str, object: &Value, time: &str, (field, value): (&str, Value)) -> Value {
    let metadata = &object["metadata"];
    let mut item = json!({
        "kind": kind, "apiVersion": format!("{GROUP}/{VERSION}"),
        "metadata": {"name": metadata["name"], "creationTimestamp": metadata["creationTimestamp"]},
        "timestamp": time, "window": WINDOW,
    });
    for field in ["namespace", "labels"] {
        if !metadata[field].is_null() {
            item["metadata"][field] = metadata[field].clone();
        }
    }
    item[field] = value;
    item
}

/// `None`: the node cannot be asked now.
async fn summary(context: &Context, node: &Value) -> Option<Arc<Summary>> {
    let name = text(node, "/metadata/name");
    if let Some(summary) = context.usage.of(name) {
        return Some(summary);
    }
    match tokio::time::timeout(ANSWER, ask(context, node)).await {
        Ok(Ok(summary)) => {
            let summary = Arc::new(summary);
            context.usage.keep(name, &summary);
            return Some(summary);
        }
        Ok(Err(why)) => tracing::debug!(node = name, why, "usage not known"),
        Err(_) => tracing::debug!(node = name, "usage not known: no answer within {ANSWER:?}"),
    }
    None
}

async fn ask(context: &Context, node: &Value) -> Result<Summary, String> {
    let connection = context.nodes.connect(node).await.ok_or("nodes are not reached")??;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = http::Uri::from_static("/stats/summary?only_cpu_and_memory=true");
    request.headers_mut().insert(HOST, HeaderValue::from_static("node"));
    let name = text(node, "/metadata/name");
    if let Ok(path) = HeaderValue::from_str(&format!("/api/v1/nodes/{name}/proxy/stats/summary")) {
        // A proxy for many nodes asks which one is meant.
        request.headers_mut().insert("x-forwarded-uri", path);
    }
    let answer = httpproxy::ask(connection, request, ANSWER).await;
    let answer = answer.map_err(|error| daemon::errors::describe(&error))?;
    if answer.status() != StatusCode::OK {
        return Err(answer.status().to_string());
    }
    let body =
        Limited::new(answer.into_body(), SUMMARY).collect().await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Usage;

    #[test]
    fn usage_is_told_once_it_is_measured() {
        let summary: Summary = serde_json::from_value(json!({
            "node": {"nodeName": "n", "cpu": {"time": "2026-11-30T03:00:00Z", "usageNanoCores": 12_345},
                "memory": {"workingSetBytes": 4096, "availableBytes": 1}},
            "pods": [{"podRef": {"name": "p", "namespace": "d", "uid": "u"}, "containers": [
                {"name": "c", "cpu": {"time": "2026-11-30T03:00:01Z", "usageNanoCores": 1}, "memory": {"workingSetBytes": 2048}}]}],
        }))
        .unwrap();
        assert_eq!(summary.node.amounts(), Some(json!({"cpu": "12345n", "memory": "4Ki"})));
        let pod = json!({"metadata": {"name": "p", "namespace": "d", "uid": "u", "labels": {"app": "x"}}});
        let told = pod_item(&pod, &summary.pods[0]).unwrap();
        assert_eq!(told["containers"], json!([{"name": "c", "usage": {"cpu": "1n", "memory": "2Ki"}}]));
        assert_eq!(
            (&told["timestamp"], &told["metadata"]["labels"]["app"]),
            (&json!("2026-11-30T03:00:01Z"), &json!("x"))
        );
        assert_eq!(Usage::default().amounts(), None);
        let other = json!({"metadata": {"name": "q", "namespace": "d", "uid": "u"}});
        assert_eq!(pod_item(&other, &summary.pods[0]), None, "another pod");
        assert_eq!(pod_item(&pod, &PodUsage { containers: vec![], ..PodUsage::default() }), None);
    }
}
