//! As much of an API server as kubectl needs to reach one pod's log, exec, attach and port-forward: it answers
//! discovery, gives the pod, and hands the rest on to the Node API's socket under the kubelet's paths.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

/// Serves until it is dropped.
pub(crate) struct Gateway {
    pub url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Gateway {
    pub(crate) async fn start(socket: PathBuf, pod: Value) -> Gateway {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (socket, pod) = (socket.clone(), pod.clone());
                tokio::spawn(async move {
                    // What kubectl makes of it is looked at.
                    let _ = serve(client, socket, &pod).await;
                });
            }
        });
        Gateway { url, task }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, socket: PathBuf, pod: &Value) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let (line, headers) = head.split_once("\r\n").unwrap();
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Some(path) = onward(path, query) else {
        let body = discovery(path, pod).to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        return client.write_all(answer.as_bytes()).await;
    };
    let mut node = UnixStream::connect(socket).await?;
    // One request per connection, so that every request passes here.
    let close = if headers.to_ascii_lowercase().contains("upgrade:") { "" } else { "connection: close\r\n" };
    node.write_all(format!("{method} {path} HTTP/1.1\r\n{close}{headers}").as_bytes()).await?;
    tokio::io::copy_bidirectional(&mut client, &mut node).await?;
    Ok(())
}

/// The kubelet's path and query for what an API server is asked.
fn onward(path: &str, query: &str) -> Option<String> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let ["api", "v1", "namespaces", namespace, "pods", pod, verb] = parts.as_slice() else { return None };
    let verb = match *verb {
        "log" => "containerLogs",
        "portforward" => return Some(format!("/portForward/{namespace}/{pod}?{query}")),
        verb => verb,
    };
    let mut container = "c";
    let mut onward = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("container", name) => container = name,
            ("stdin", "true") => onward.push("input=1".to_owned()),
            ("stdout", "true") => onward.push("output=1".to_owned()),
            ("stderr", "true") => onward.push("error=1".to_owned()),
            _ => onward.push(pair.to_owned()),
        }
    }
    Some(format!("/{verb}/{namespace}/{pod}/{container}?{}", onward.join("&")))
}

fn discovery(path: &str, pod: &Value) -> Value {
    match path {
        "/api" => json!({"kind": "APIVersions", "versions": ["v1"]}),
        "/apis" => json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}),
        "/api/v1" => json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [
            {"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": ["get", "list"]}]}),
        _ => pod.clone(),
    }
}
