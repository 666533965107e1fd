//! Clients that cost little themselves: one connection each, bodies that are made beforehand and not parsed. They run on the same
//! cores as the server, and what they take it does not have.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use kube::client::ConfigExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

pub(super) const NAMESPACE: &str = "bench-api";
/// Of an object, about.
const BYTES: usize = 2000;

pub(super) struct Client {
    sender: Mutex<SendRequest<Full<Bytes>>>,
    host: HeaderValue,
}

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

/// Its bytes.
pub(super) fn body(at: usize, round: usize) -> Bytes {
    object(at, round).to_string().into()
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
    /// Of an HTTPS server, by the certificate of the kubeconfig's user.
    pub(super) async fn connect(kubeconfig: &Path) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let host = config.cluster_url.host().context("the kubeconfig's server has no host")?.to_owned();
        let port = config.cluster_url.port_u16().unwrap_or(443);
        Client::over(Arc::new(config.rustls_client_config()?), host, port).await
    }

    pub(super) async fn over(tls: Arc<ClientConfig>, host: String, port: u16) -> Result<Client> {
        let address = format!("{host}:{port}");
        let stream =
            TcpStream::connect(&address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(tls).connect(ServerName::try_from(host)?, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Client { sender: Mutex::new(sender), host: HeaderValue::try_from(address)? })
    }

    pub(super) async fn many(kubeconfig: &Path, count: usize) -> Result<Vec<Arc<Client>>> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(Arc::new(Client::connect(kubeconfig).await?));
        }
        Ok(all)
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: Bytes) -> Result<Response<Incoming>> {
        let request = Request::builder().method(method).uri(path).header(header::HOST, self.host.clone());
        let request = request.header(header::CONTENT_TYPE, kind).header(header::ACCEPT, "application/json");
        let mut sender = self.sender.lock().await;
        sender.ready().await?;
        Ok(sender.send_request(request.body(Full::new(body))?).await?)
    }

    async fn ask(&self, method: Method, path: &str, kind: &str, body: Bytes) -> Result<Bytes> {
        let answer = self.send(method.clone(), path, kind, body).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&body[..body.len().min(300)]));
        }
        Ok(body)
    }

    pub(super) async fn get(&self, path: &str) -> Result<Bytes> {
        self.ask(Method::GET, path, "application/json", Bytes::new()).await
    }

    pub(super) async fn post(&self, path: &str, body: Bytes) -> Result<Bytes> {
        self.ask(Method::POST, path, "application/json", body).await
    }

    pub(super) async fn put(&self, path: &str, body: Bytes) -> Result<Bytes> {
        self.ask(Method::PUT, path, "application/json", body).await
    }

    pub(super) async fn patch(&self, path: &str, body: &Value) -> Result<Bytes> {
        self.ask(Method::PATCH, path, "application/merge-patch+json", body.to_string().into()).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Bytes> {
        self.ask(Method::DELETE, path, "application/json", Bytes::new()).await
    }

    /// The body of a watch, which does not end. The connection is of no further use.
    pub(super) async fn watch(&self, path: &str) -> Result<Incoming> {
        let answer = self.send(Method::GET, path, "application/json", Bytes::new()).await?;
        anyhow::ensure!(answer.status().is_success(), "watching {path}: {}", answer.status());
        Ok(answer.into_body())
    }
}
