//! Clients that cost little themselves: one connection each, bodies that are not parsed.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use http::{Method, Request};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

pub(super) const NAMESPACE: &str = "bench-api";
/// Of an object, about.
const BYTES: usize = 2000;

pub(super) struct Client(kube::Client);

/// The path of the objects, or of one.
pub(super) fn path(name: &str) -> String {
    let slash = if name.is_empty() { "" } else { "/" };
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps{slash}{name}")
}

pub(super) fn app(at: usize) -> String {
    format!("a{}", at % 100)
}

/// A config map of 2 KB, in its `round`th state.
pub(super) fn object(at: usize, round: usize) -> Value {
    let filler: String =
        (0..BYTES).map(|place| char::from(b'a' + ((place * 7 + at + round) % 26) as u8)).collect();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": format!("o-{at}"), "labels": {"app": app(at), "tier": "bench"}},
        "data": {"round": round.to_string(), "filler": filler},
    })
}

/// How many items a list has.
pub(super) fn items(body: &[u8]) -> Result<usize> {
    let mark = b"\"filler\":";
    anyhow::ensure!(body.windows(6).any(|window| window == b"\"items"), "that is no list");
    Ok(body.windows(mark.len()).filter(|window| window == mark).count())
}

/// Its continue token.
pub(super) fn continued(body: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(&body[..body.len().min(500)]).unwrap_or_default();
    let after = text.split_once("\"continue\":\"").map(|(_, rest)| rest);
    Ok(after.and_then(|rest| rest.split_once('"')).map(|(token, _)| token.to_owned()).unwrap_or_default())
}

impl Client {
    pub(super) async fn connect(kubeconfig: &Path) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Client(kube::Client::try_from(config)?))
    }

    pub(super) async fn many(kubeconfig: &Path, count: usize) -> Result<Vec<Arc<Client>>> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(Arc::new(Client::connect(kubeconfig).await?));
        }
        Ok(all)
    }

    async fn ask(&self, method: Method, path: &str, kind: &str, body: Vec<u8>) -> Result<Vec<u8>> {
        let request = Request::builder().method(method.clone()).uri(path);
        let request = request.header("Content-Type", kind).header("Accept", "application/json");
        let answer = self.0.send(request.body(Body::from(body))?).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&body[..body.len().min(300)]));
        }
        Ok(body.to_vec())
    }

    pub(super) async fn get(&self, path: &str) -> Result<Vec<u8>> {
        self.ask(Method::GET, path, "application/json", Vec::new()).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Vec<u8>> {
        self.ask(Method::POST, path, "application/json", serde_json::to_vec(body)?).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Vec<u8>> {
        self.ask(Method::PUT, path, "application/json", serde_json::to_vec(body)?).await
    }

    pub(super) async fn patch(&self, path: &str, body: &Value) -> Result<Vec<u8>> {
        self.ask(Method::PATCH, path, "application/merge-patch+json", serde_json::to_vec(body)?).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Vec<u8>> {
        self.ask(Method::DELETE, path, "application/json", Vec::new()).await
    }

    /// The body of a watch, which does not end.
    pub(super) async fn watch(&self, path: &str) -> Result<Body> {
        let answer = self.0.send(Request::get(path).body(Body::empty())?).await?;
        anyhow::ensure!(answer.status().is_success(), "watching {path}: {}", answer.status());
        Some(answer.into_body()).context("a body")
    }
}
