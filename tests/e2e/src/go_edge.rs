//! An edge as KubeEdge's own behaves, scripted in raw WebSocket frames: no link code of ours is between it and CloudCore.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
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

use crate::peer;
use harness::wait::PATIENCE;

/// Name of the node in the recorded messages.
pub const NODE: &str = "edge1";
/// Long enough for everything that is on its way.
const QUIET: Duration = Duration::from_millis(1500);

/// A cloud, and the certificate of a node.
pub struct Lab {
    pub cloud: Cloud,
    /// Certificate files of the node, whose EdgeCore is stopped.
    folder: PathBuf,
    _scratch: TempDir,
}

impl Lab {
    pub fn start() -> Result<Lab> {
        Lab::start_with(&[])
    }

    /// With settings of CloudCore, as `--set` takes them.
    pub fn start_with(settings: &[&str]) -> Result<Lab> {
        let programs = Programs::find()?;
        let scratch = tempfile::tempdir()?;
        // Its edges say what a test has them say, and nothing while it waits for a command on a busy machine.
        let settings = [&["modules.cloudHub.keepaliveInterval=600"], settings].concat();
        let cloud = Cloud::init_with(&programs, &scratch.path().join("cloud"), &settings)?;
        // Joins for its certificate only.
        let edge =
            Edge::join(&programs, &cloud, NODE, &scratch.path().join(NODE), cloud.edge_address(), None)?;
        let certificate = edge.root.join("etc/kubeedge/certs/server.crt");
        wait::for_true("the certificate", PATIENCE, || Ok(certificate.exists()))?;
        let folder = edge.root.clone();
        drop(edge);
        Ok(Lab { cloud, folder, _scratch: scratch })
    }

    /// Runs a conversation on this thread.
    pub fn block_on<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
    }

    pub async fn connect(&self) -> Result<GoEdge> {
        let tls = peer::tls(&self.folder, true)?;
        let socket = peer::connect(tls, self.cloud.edge_port, NODE).await?;
        let socket = socket.map_err(|(status, text)| anyhow::anyhow!("{status}: {text}"))?;
        Ok(GoEdge { socket, received: Vec::new() })
    }

    /// (node, uid) and version of every sync object.
    pub fn records(&self) -> Result<Vec<String>> {
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
pub struct GoEdge {
    pub socket: peer::Socket,
    /// Everything received so far.
    pub received: Vec<Value>,
}

/// A message of edged.
pub fn message(id: &str, group: &str, operation: &str, resource: &str, content: Value) -> Value {
    json!({"header": {"msg_id": id, "timestamp": 1795222379100_i64},
        "route": {"source": "edged", "group": group, "operation": operation, "resource": resource},
        "content": content})
}

impl GoEdge {
    pub async fn send(&mut self, message: &Value) -> Result<()> {
        peer::send(&mut self.socket, &format!("{message}\n")).await
    }

    /// Sends a message the way Go's writer does when it is larger than its buffer: in fragments of 4 KiB.
    pub async fn send_in_fragments(&mut self, message: &Value) -> Result<usize> {
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
    pub async fn read(&mut self, acking: bool) -> Result<Vec<Value>> {
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
    pub async fn next(&mut self, acking: bool) -> Result<Option<Value>> {
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

    /// Sends a request and gives its answer.
    pub async fn answer(&mut self, request: &Value) -> Result<Value> {
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

/// What KubeEdge's edges of before 1.12 say, at `port` of CloudCore as the node whose certificate is below `root`: the whole status of
/// the node and of a pod (name and uid), and an event that is made, written again and patched until it `has_come`: nobody is told.
///
/// # Errors
/// CloudCore refuses it, or does not answer.
pub fn whole_reports(
    root: &Path,
    port: u16,
    node: &str,
    [name, uid]: [&str; 2],
    has_come: impl Fn() -> Result<bool>,
) -> Result<()> {
    let tls = peer::tls(root, true)?;
    let talk = async {
        let socket = peer::connect(tls, port, node).await?;
        let mut socket = socket.map_err(|(status, text)| anyhow::anyhow!("{status}: {text}"))?;
        let conditions = json!([{"type": "Ready", "status": "True"}]);
        let of_node =
            json!({"UID": node, "Status": {"nodeInfo": {"architecture": "arm64"}, "conditions": conditions}});
        let of_pod =
            json!({"UID": uid, "Name": name, "Status": {"phase": "Running", "conditions": conditions}});
        for (resource, report) in
            [(format!("default/nodestatus/{node}"), of_node), (format!("default/podstatus/{name}"), of_pod)]
        {
            peer::send(&mut socket, &message(&resource, "meta", "update", &resource, report).to_string())
                .await?;
            let answer = peer::answer(&mut socket, &resource).await?;
            anyhow::ensure!(answer["content"] == "OK", "{answer}");
        }
        let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "told", "namespace": "default"},
            "involvedObject": {"kind": "Node", "name": node}, "count": 1});
        let patch = json!({"event": event, "patchData": "{\"count\":3}"});
        for (operation, content) in [("insert", event.clone()), ("update", event), ("patch", patch)] {
            let told = message(operation, "resource", operation, "default/event/told", content);
            peer::send(&mut socket, &told.to_string()).await?;
        }
        // What is under way ends with the session.
        while !has_come()? {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, talk).await.context("CloudCore does not answer")? })
}
