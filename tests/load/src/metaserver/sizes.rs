//! Objects of all sizes at the node: told by its watch, and read, as the API server has them.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt as _;
use harness::wait::PATIENCE;
use http::Request;
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

use super::informers::connect;

/// In KB, as acceptance tests of proxies at the edge have them.
const SIZES: [usize; 7] = [31, 32, 33, 64, 256, 1024, 1500];
const GROUP: &str = "bench.causeway.io";
const PATH: &str = "/apis/bench.causeway.io/v1/namespaces/default/blobs";

fn definition() -> Value {
    let text = json!({ "type": "object", "properties": { "text": { "type": "string" } } });
    let schema = json!({ "type": "object", "properties": { "spec": text } });
    let version =
        json!({ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } });
    let names = json!({ "plural": "blobs", "singular": "blob", "kind": "Blob", "listKind": "BlobList" });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": format!("blobs.{GROUP}") },
        "spec": { "group": GROUP, "scope": "Namespaced", "names": names, "versions": [version] },
    })
}

async fn send(client: &kube::Client, method: &str, path: &str, body: &Value) -> Result<Vec<u8>> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let answer = client.send(request.body(Body::from(body))?).await?;
    let code = answer.status();
    let body = answer.into_body().collect().await?.to_bytes().to_vec();
    ensure!(
        code.is_success(),
        "{method} {path}: {code}: {}",
        String::from_utf8_lossy(&body[..body.len().min(300)])
    );
    Ok(body)
}

/// How many objects there were, and how many of them were equal, told and read.
pub(super) async fn run(cloud: &Path, node: &Path) -> Result<(usize, usize)> {
    let (cloud, node) = (connect(cloud).await?, connect(node).await?);
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    send(&cloud, "POST", definitions, &definition()).await?;
    let served = async {
        while send(&node, "GET", PATH, &Value::Null).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, served).await.context("the node does not serve the new kind")?;
    let request = Request::get(format!("{PATH}?watch=1&resourceVersion=0")).body(Body::empty())?;
    let mut lines = lines(node.send(request).await?.into_body());
    let mut equal = 0;
    for size in SIZES {
        let name = format!("size-{size}");
        let text: String = (0..size * 1000).map(|at| char::from(b'a' + (at * 7 % 26) as u8)).collect();
        let object = json!({ "apiVersion": format!("{GROUP}/v1"), "kind": "Blob", "metadata": { "name": name }, "spec": { "text": text } });
        send(&cloud, "POST", PATH, &object).await?;
        let path = format!("{PATH}/{name}");
        let expected = send(&cloud, "GET", &path, &Value::Null).await?;
        let told = tokio::time::timeout(PATIENCE, lines.next()).await.context("an event did not come")??;
        let event: Value = serde_json::from_slice(&told)?;
        let is_told = event["object"] == serde_json::from_slice::<Value>(&expected)?;
        let is_read = send(&node, "GET", &path, &Value::Null).await? == expected;
        equal += usize::from(is_told && is_read);
    }
    Ok((SIZES.len(), equal))
}

struct Lines {
    body: http_body_util::BodyDataStream<Body>,
    text: Vec<u8>,
}

fn lines(body: Body) -> Lines {
    Lines { body: body.into_data_stream(), text: Vec::new() }
}

impl Lines {
    async fn next(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                return Ok(self.text.drain(..=end).collect());
            }
            let piece = self.body.next().await.context("the watch ended")?;
            self.text
                .extend_from_slice(&piece.map_err(|error| anyhow::anyhow!("reading the watch: {error}"))?);
        }
    }
}
