//! A request handed on through a connection to a port, which the node makes.

use std::time::Duration;

use apimachinery::Status;
use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use httpproxy::{Framing, Terms};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kubeapi::respond::{self, Answer, BodyError};
use kubeapi::stored::Key;

use super::super::Call;

/// How long the node, and then the server behind it, may take to answer.
const ANSWER: Duration = Duration::from_secs(60);
/// How long that server may take for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(15);
const IDLE: Duration = Duration::from_secs(4 * 3600);
/// What is read of a node's refusal.
const REFUSAL: usize = 4096;
/// What a node's connection is upgraded to.
const TCP: HeaderValue = HeaderValue::from_static("tcp");

/// A port that a node reaches.
pub(super) struct Backend<'a> {
    pub node: &'a str,
    /// Of its Node API, which connects to the port.
    pub path: String,
    /// What the server there is called.
    pub host: String,
    /// HTTPS, whose certificate is not verified, as by kube-apiserver.
    pub is_tls: bool,
}

/// A connection to the port.
async fn reach(call: &Call<'_>, backend: &Backend<'_>) -> Result<TokioIo<Upgraded>, Status> {
    let Backend { node, path, .. } = backend;
    let unreachable =
        |why: &dyn std::fmt::Display| Status::unavailable(format!("node {node:?} cannot be asked: {why}"));
    let object = call.backend.storage.get(&Key::new("nodes", "", node)).await?;
    let object = object.ok_or_else(|| unreachable(&"there is no such node"))?;
    let object = object.value()?;
    let Some(connection) = call.backend.nodes.connect(&object).await else {
        let message = "this API server reaches no nodes, so it does not serve proxies";
        return Err(Status::new(501, "NotImplemented", message));
    };
    let connection = connection.map_err(|why| unreachable(&why))?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = path.parse().map_err(|_| Status::bad_request(format!("{path:?} is not a path")))?;
    *request.headers_mut() = HeaderMap::from_iter([
        (HOST, HeaderValue::from_static("node")),
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, TCP),
    ]);
    // A proxy for many nodes asks which one is meant.
    if let Ok(asked) = HeaderValue::from_str(&format!("/api/v1/nodes/{node}/proxy{path}")) {
        request.headers_mut().insert("x-forwarded-uri", asked);
    }
    let answer = httpproxy::ask(connection, request, ANSWER).await;
    let mut answer = answer.map_err(|error| unreachable(&daemon::errors::describe(&error)))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refused(node, answer).await);
    }
    let stream = hyper::upgrade::on(&mut answer).await.map_err(|error| unreachable(&error))?;
    Ok(TokioIo::new(stream))
}

/// A node's refusal in its own words.
async fn refused(node: &str, answer: Response<Incoming>) -> Status {
    let code = answer.status();
    let said = tokio::time::timeout(ANSWER, Limited::new(answer.into_body(), REFUSAL).collect()).await;
    let said = said.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    match code {
        StatusCode::FORBIDDEN => {
            Status::new(403, "Forbidden", format!("node {node:?} refuses: {}", said.trim()))
        }
        code => Status::unavailable(format!("node {node:?} answered {code}: {}", said.trim())),
    }
}

pub(super) async fn forward(call: Call<'_>, body: Incoming, backend: &Backend<'_>) -> Result<Answer, Status> {
    let stream = reach(&call, backend).await?;
    let onward = onward(&call, body, &backend.host)?;
    let failed =
        |why: String| Status::unavailable(format!("error trying to reach {:?}: {why}", call.target.name));
    let stop = call.backend.stop.clone();
    let terms = Terms { patience: ANSWER, idle: IDLE, framing: Framing::Unknown, stop };
    let client = hyper::upgrade::on(Request::from_parts(call.parts.clone(), ()));
    let answer = match backend.is_tls {
        false => httpproxy::hand_on(stream, onward, client, terms, ()).await,
        true => {
            let stream = httpproxy::unverified_tls(stream, HANDSHAKE).await;
            let stream = stream.map_err(|error| failed(daemon::errors::describe(&error)))?;
            httpproxy::hand_on(stream, onward, client, terms, ()).await
        }
    };
    let answer = answer.map_err(|error| failed(daemon::errors::describe(&error)))?;
    let (parts, body) = answer.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Response::from_parts(parts, respond::empty()));
    }
    let mut handed = Response::new(body.map_err(BodyError::from).boxed_unsync());
    *handed.status_mut() = parts.status;
    *handed.headers_mut() = httpproxy::answered(&parts.headers);
    Ok(handed)
}

/// The request as the server gets it.
fn onward(call: &Call<'_>, body: Incoming, host: &str) -> Result<Request<Incoming>, Status> {
    let query = call.parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("/{}{query}", call.rest);
    let uri: Uri = path.parse().map_err(|_| Status::bad_request(format!("{path:?} is not a path")))?;
    let host = HeaderValue::from_str(host).unwrap_or(HeaderValue::from_static("pod"));
    let mut onward = Request::new(body);
    *onward.method_mut() = call.parts.method.clone();
    *onward.uri_mut() = uri;
    *onward.headers_mut() = httpproxy::onward(&call.parts.headers, host);
    for (name, value) in [("x-forwarded-uri", call.parts.uri.path()), ("x-forwarded-proto", "https")] {
        if let Ok(value) = HeaderValue::from_str(value) {
            onward.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    Ok(onward)
}
