//! An edge as KubeEdge's own behaves, scripted in raw WebSocket frames from the recorded messages: no link code of ours
//! is between it and CloudCore.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{peer, recorded};
use futures_util::{SinkExt, StreamExt};
use harness::cloud::Cloud;
use harness::edge::Edge;
use harness::programs::Programs;
use harness::wait;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame as RawFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// Name of the node in the recorded messages.
const NODE: &str = "edge1";
const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for everything that is on its way.
const QUIET: Duration = Duration::from_millis(1500);

struct Lab {
    cloud: Cloud,
    /// Certificate files of the node, whose EdgeCore is stopped.
    folder: PathBuf,
    _scratch: TempDir,
}

impl Lab {
    fn start() -> Result<Lab> {
        let programs = Programs::find()?;
        let scratch = tempfile::tempdir()?;
        let cloud = Cloud::init(&programs, &scratch.path().join("cloud"))?;
        // Joins for its certificate only.
        let edge =
            Edge::join(&programs, &cloud, NODE, &scratch.path().join(NODE), cloud.edge_address(), None)?;
        let certificate = edge.root.join("etc/kubeedge/certs/server.crt");
        wait::for_true("the certificate", PATIENCE, || Ok(certificate.exists()))?;
        let folder = edge.root.clone();
        drop(edge);
        Ok(Lab { cloud, folder, _scratch: scratch })
    }

    async fn connect(&self) -> Result<GoEdge> {
        let tls = peer::tls(&self.folder, true)?;
        let socket = peer::connect(tls, self.cloud.edge_port, NODE).await?;
        let socket = socket.map_err(|(status, text)| anyhow::anyhow!("{status}: {text}"))?;
        Ok(GoEdge { socket, received: Vec::new() })
    }

    /// (node, uid) and version of every sync object.
    fn records(&self) -> Result<Vec<String>> {
        let list =
            self.cloud.kubectl().run(&["get", "objectsyncs,clusterobjectsyncs", "-A", "-o", "json"])?;
        let list: Value = serde_json::from_str(&list)?;
        let record = |item: &Value| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            format!(
                "{} {} {}",
                text(&item["spec"]["objectKind"]),
                text(&item["spec"]["objectName"]),
                text(&item["status"]["objectResourceVersion"])
            )
        };
        Ok(list["items"].as_array().context("items")?.iter().map(record).collect())
    }
}

/// The edge's end of one connection.
struct GoEdge {
    socket: peer::Socket,
    /// Everything received so far.
    received: Vec<Value>,
}

fn message(id: &str, group: &str, operation: &str, resource: &str, content: Value) -> Value {
    json!({"header": {"msg_id": id, "timestamp": 1795222379100_i64},
        "route": {"source": "edged", "group": group, "operation": operation, "resource": resource},
        "content": content})
}

impl GoEdge {
    async fn send(&mut self, message: &Value) -> Result<()> {
        peer::send(&mut self.socket, &format!("{message}\n")).await
    }

    /// Sends a message the way Go's writer does when it is larger than its buffer: in fragments of 4 KiB.
    async fn send_in_fragments(&mut self, message: &Value) -> Result<usize> {
        let bytes = format!("{message}\n").into_bytes();
        let parts: Vec<&[u8]> = bytes.chunks(4096).collect();
        for (at, part) in parts.iter().enumerate() {
            let data = if at == 0 { Data::Text } else { Data::Continue };
            let last = at + 1 == parts.len();
            let frame = RawFrame::message(part.to_vec(), OpCode::Data(data), last);
            self.socket.send(Frame::Frame(frame)).await?;
        }
        Ok(parts.len())
    }

    /// Reads until nothing comes for a while; acknowledges what a Go edge acknowledges, if `acking`.
    async fn read(&mut self, acking: bool) -> Result<Vec<Value>> {
        let mut fresh = Vec::new();
        while let Ok(next) = tokio::time::timeout(QUIET, self.next(acking)).await {
            match next? {
                Some(message) => fresh.push(message),
                None => break,
            }
        }
        Ok(fresh)
    }

    /// The next message; `None` at the end of the connection.
    async fn next(&mut self, acking: bool) -> Result<Option<Value>> {
        let Some(Ok(Frame::Text(text))) = self.socket.next().await else { return Ok(None) };
        let message: Value = serde_json::from_str(&text)?;
        let operation = message["route"]["operation"].as_str().unwrap_or_default();
        if acking
            && matches!(operation, "insert" | "update" | "delete")
            && message["route"]["group"] == "resource"
        {
            let mut ack = message.clone();
            ack["header"] = json!({"msg_id": format!("ack-{}", message["header"]["msg_id"]),
                "parent_msg_id": message["header"]["msg_id"], "timestamp": 1795222379100_i64});
            ack["route"]["operation"] = "response".into();
            ack["content"] = "OK".into();
            self.send(&ack).await?;
        }
        self.received.push(message.clone());
        Ok(Some(message))
    }

    async fn answer(&mut self, request: &Value) -> Result<Value> {
        self.send(request).await?;
        let wanted = &request["header"]["msg_id"];
        loop {
            let message =
                tokio::time::timeout(PATIENCE, self.next(true)).await??.context("the link ended")?;
            if message["header"]["parent_msg_id"] == *wanted {
                return Ok(message);
            }
        }
    }
}

/// `operation resource` of messages that carry objects.
fn objects(messages: &[Value]) -> Vec<String> {
    let text = |message: &Value, field: &str| message["route"][field].as_str().unwrap_or_default().to_owned();
    let mut objects: Vec<String> = messages
        .iter()
        .filter(|message| {
            message["route"]["group"] == "resource" && message["header"]["parent_msg_id"].is_null()
        })
        .map(|message| format!("{} {}", text(message, "operation"), text(message, "resource")))
        .collect();
    objects.sort();
    objects.dedup();
    objects
}

fn manifests() -> String {
    let config_map = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "default"}, "data": {"text": "x".repeat(20_000)}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "none",
            "envFrom": [{"configMapRef": {"name": "c"}}]}]}});
    json!({"apiVersion": "v1", "kind": "List", "items": [config_map, pod]}).to_string()
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

#[test]
fn a_go_edge_gets_its_objects_once_and_again_only_what_changed_or_when_it_starts_over() -> Result<()> {
    let lab = Lab::start()?;
    runtime()?.block_on(async {
        let mut edge = lab.connect().await?;
        let registered =
            edge.answer(&recorded::with_id("005-up-edged-meta-insert-node.json", "register")?).await?;
        ensure!(registered["content"]["Object"]["metadata"]["name"] == NODE, "{registered}");
        lab.cloud.kubectl().apply(&manifests())?;
        let first = edge.read(true).await?;
        let expected = [
            "insert default/configmap/c",
            "insert default/configmap/kube-root-ca.crt",
            "insert default/pod/p",
            "update null/node/edge1",
        ];
        ensure!(
            objects(&edge.received).iter().map(String::as_str).eq(expected),
            "{:?}",
            objects(&edge.received)
        );
        for message in &first {
            let carries =
                message["route"]["operation"] != "response" && message["route"]["group"] == "resource";
            ensure!(!carries || message["header"]["resourceversion"].is_string(), "{message}");
            ensure!(!carries || message["content"]["kind"].is_string(), "{message}");
        }
        wait::for_true("every acknowledgement is recorded", PATIENCE, || Ok(lab.records()?.len() >= 4))?;

        // The same process connects again: nothing changed, nothing comes.
        drop(edge);
        let mut edge = lab.connect().await?;
        let quiet = objects(&edge.read(true).await?);
        ensure!(quiet.is_empty(), "sent again: {quiet:?}");
        // What changes comes, as an update.
        lab.cloud.kubectl().run(&["patch", "configmap", "c", "-p", "{\"data\":{\"text\":\"y\"}}"])?;
        ensure!(objects(&edge.read(true).await?) == ["update default/configmap/c"]);
        // A write that changes nothing for the node does not.
        lab.cloud.kubectl().run(&[
            "patch",
            "pod",
            "p",
            "--subresource=status",
            "-p",
            "{\"status\":{\"phase\":\"Running\"}}",
        ])?;
        ensure!(objects(&edge.read(true).await?).is_empty());
        // EdgeCore starts over, perhaps on an empty disk: it registers, and gets everything.
        edge.send(&recorded::with_id("005-up-edged-meta-insert-node.json", "again")?).await?;
        let all = objects(&edge.read(true).await?);
        ensure!(all.len() == 4, "{all:?}");
        // A deletion while it is away is caught up with.
        drop(edge);
        lab.cloud.kubectl().run(&["delete", "pod", "p", "--force", "--grace-period=0"])?;
        let mut edge = lab.connect().await?;
        let missed = edge.read(true).await?;
        ensure!(
            objects(&missed).iter().any(|object| object == "delete default/pod/p"),
            "{:?}",
            objects(&missed)
        );
        let deletion =
            missed.iter().find(|message| message["route"]["operation"] == "delete").context("one")?;
        ensure!(deletion["content"]["metadata"]["uid"].is_string(), "{deletion}");
        wait::for_true("the record of the pod is gone", PATIENCE, || {
            Ok(lab.records()?.iter().all(|record| !record.starts_with("Pod ")))
        })
    })
}

#[test]
fn an_unacknowledged_message_comes_again_under_its_id() -> Result<()> {
    let lab = Lab::start()?;
    runtime()?.block_on(async {
        let mut edge = lab.connect().await?;
        edge.answer(&recorded::with_id("005-up-edged-meta-insert-node.json", "register")?).await?;
        edge.read(true).await?;
        lab.cloud.kubectl().apply(&manifests())?;
        let first = edge.read(false).await?;
        let id = |messages: &[Value]| {
            let pod = messages.iter().find(|message| message["route"]["resource"] == "default/pod/p");
            pod.map(|message| message["header"]["msg_id"].clone())
        };
        tokio::time::sleep(Duration::from_secs(5)).await;
        let again = edge.read(true).await?;
        ensure!(id(&first).is_some() && id(&first) == id(&again), "{:?} and {:?}", id(&first), id(&again));
        Ok(())
    })
}

#[test]
fn fragments_are_joined_questions_answered_and_a_deleted_node_ends_its_session() -> Result<()> {
    let lab = Lab::start()?;
    runtime()?.block_on(async {
        let mut edge = lab.connect().await?;
        let mut node = recorded::with_id("005-up-edged-meta-insert-node.json", "register")?;
        node["content"]["metadata"]["annotations"]["filler"] = "z".repeat(50_000).into();
        ensure!(edge.send_in_fragments(&node).await? > 10);
        let registered = peer::answer(&mut edge.socket, "register").await?;
        ensure!(registered["content"]["Object"]["metadata"]["name"] == NODE, "{registered}");
        let pong = edge.answer(&message("ping-1", "resource", "ping", "x", Value::Null)).await?;
        ensure!(pong["content"] == "ack" && pong["route"]["operation"] == "response", "{pong}");
        let ca = edge.answer(&message("ca-1", "meta", "query", "k8s/ca.crt", Value::Null)).await?;
        let pem = ca["content"].as_str().context("a text")?;
        ensure!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
        let foreign = message("q-1", "meta", "query", "default/secret/of-nobody", Value::Null);
        let refused = edge.answer(&foreign).await?;
        ensure!(refused["content"]["ErrStatus"]["code"] == 403, "{refused}");
        // An acknowledgement of nothing and an error report disturb nobody.
        let mut stray = message("stray", "resource", "response", "default/pod/none", json!("OK"));
        stray["header"]["parent_msg_id"] = "never-sent".into();
        edge.send(&stray).await?;
        stray["route"]["operation"] = "error".into();
        edge.send(&stray).await?;
        edge.send(&message("k", "resource", "keepalive", "node", json!("ping"))).await?;
        ensure!(
            edge.answer(&message("ping-2", "resource", "ping", "x", Value::Null)).await?["content"] == "ack"
        );

        lab.cloud.kubectl().run(&["delete", "node", NODE])?;
        let (code, reason) = tokio::time::timeout(PATIENCE, peer::closing(&mut edge.socket)).await?;
        ensure!(code == 1008 && reason.contains("deleted"), "{code} {reason}");
        Ok(())
    })
}
