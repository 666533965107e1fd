//! Requests of programs on nodes to the API server: each comes as a stream that its edge opened in its session, with the caller's
//! own token, and the API server decides what the caller may.
//!
//! ```text
//! pod --> MetaServer of the edge --stream of the session--> [this room] --> API server, as the caller
//! ```
//!
//! A stream is one HTTP/1.1 connection with one request, which may upgrade it (`upgrade`). Requests without a token are answered with
//! 401 here: CloudCore lends its own rights to nobody. The node itself (`Causeway-Caller: node`) reads what every user may, which is
//! discovery; to anything else it hears 503, and answers from what it holds, unless `modules.dynamicController.nodeIdentity` lets
//! nodes ask as themselves: then it is impersonated, by the name of its session and no other, for what is its own
//! (`node_requests`), and the API server decides what it may. One path is this room's own: [`KEYS`] tells by which keys the API
//! server signs tokens, so that the edge can check them while it is cut off.
//!
//! MetaServers of KubeEdge's own edges ask by messages ([`Applications`]); what these ask is the node's own request as well, and is
//! carried out by the same rules.

mod applications;
mod node_client;
mod node_requests;
mod shown;
mod upgrade;
mod watches;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::path::is_discovery;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use message::{NodeName, Status};
use serde_json::{Value, json};
use tokio::io::DuplexStream;

use crate::edgecontroller::Rights;
use crate::kubernetes::Cluster;
pub use applications::Applications;
pub use watches::Watches;

/// Answers `{"issuer": ..., "keys": [...]}`: the issuer of service-account tokens, and its keys (RFC 7517).
pub const KEYS: &str = "/.causeway/v1/keys";

/// Says `node` where the node itself asks.
const CALLER: HeaderName = HeaderName::from_static("causeway-caller");
const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");
const IMPERSONATE_GROUP: HeaderName = HeaderName::from_static("impersonate-group");
/// Bytes between the session and the connection to the API server.
const PIPE: usize = 32 * 1024;
/// The headers of a request.
const HEADERS: Duration = Duration::from_secs(10);
/// From the end of the request to the headers of the answer. Upstream's longest is 60 s.
const ANSWER: Duration = Duration::from_secs(70);

/// As Kubernetes' limit for bodies.
const BODY: usize = 3 * 1024 * 1024;
const BODY_TIME: Duration = Duration::from_secs(60);

/// Headers of one connection (RFC 9110, 7.6.1), and those by which proxies in front of API servers tell who asks.
const NOT_PASSED: [HeaderName; 9] = [
    header::CONNECTION,
    header::HOST,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Hands requests on. Clones share the connections.
#[derive(Clone)]
pub struct Requests {
    cluster: Arc<Cluster>,
    /// Nodes may ask as themselves, for what these allow.
    node_identity: Option<Rights>,
}

impl Requests {
    pub fn new(cluster: Cluster, node_identity: Option<Rights>) -> Requests {
        if node_identity.is_some() {
            tracing::warn!(
                "modules.dynamicController.nodeIdentity: nodes ask the API server as themselves, and CloudCore may impersonate users"
            );
        }
        Requests { cluster: Arc::new(cluster), node_identity }
    }

    /// The end of a stream of `node`. It is served until its request is answered, or either end is gone.
    pub fn connect(&self, node: &NodeName) -> DuplexStream {
        let (near, far) = tokio::io::duplex(PIPE);
        let (requests, node) = (self.clone(), node.clone());
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let (requests, node) = (requests.clone(), node.clone());
                async move { Ok::<_, Infallible>(requests.answer(&node, request).await) }
            });
            let serving = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .serve_connection(TokioIo::new(far), answer)
                .with_upgrades();
            if let Err(error) = serving.await {
                tracing::debug!(%error, "a request of a node broke off");
            }
        });
        near
    }

    async fn answer(&self, node: &NodeName, request: Request<Incoming>) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answered = match path.as_str() {
            KEYS => self.keys().await.map(|keys| whole(200, &keys)),
            _ => self.pass_on(node, request).await,
        };
        let mut answer = answered.unwrap_or_else(|status| refusal(&status));
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        tracing::debug!(%node, operation = %method, path, code = answer.status().as_u16(), "answered a request of a node");
        answer
    }

    async fn keys(&self) -> Result<Value, Status> {
        let read = |text: message::Json| text.parse::<Value>().unwrap_or_default();
        let found = read(self.cluster.get("/.well-known/openid-configuration").await?);
        let mut keys = read(self.cluster.get("/openid/v1/jwks").await?);
        Ok(json!({ "issuer": found["issuer"], "keys": keys["keys"].take() }))
    }

    /// What the node asks for itself, as CloudCore, which may read no more of this than anyone.
    async fn of_the_node(&self, parts: http::request::Parts) -> Result<Response<Body>, Status> {
        if parts.method != Method::GET || !is_discovery(parts.uri.path()) {
            let why = "the cloud hands on what callers with a token of their own ask for; of the node itself it takes discovery, \
                       unless modules.dynamicController.nodeIdentity of CloudCore is on";
            return Err(Status::new(503, "ServiceUnavailable", why));
        }
        let mut request = Request::get(parts.uri);
        for name in [header::ACCEPT, header::IF_NONE_MATCH] {
            if let Some(value) = parts.headers.get(&name) {
                request = request.header(name, value);
            }
        }
        let request = request.body(kube::client::Body::empty());
        let request = request.map_err(|error| Status::new(400, "BadRequest", error.to_string()))?;
        answer(self.cluster.send_raw(request)).await
    }

    /// What the node asks for, as the node.
    async fn as_the_node(
        &self,
        (node, rights): (&NodeName, &Rights),
        mut parts: http::request::Parts,
        body: Bytes,
    ) -> Result<Response<Body>, Status> {
        node_requests::check(node, &parts, &body, rights).await?;
        strip(&mut parts.headers);
        // Whoever the request says to be, it is the node of this session.
        let said =
            |name: &&HeaderName| name.as_str().starts_with("impersonate-") || **name == header::AUTHORIZATION;
        let said: Vec<HeaderName> = parts.headers.keys().filter(said).cloned().collect();
        for name in said.iter().chain([&CALLER]) {
            parts.headers.remove(name);
        }
        let user = HeaderValue::from_str(&format!("system:node:{node}"))
            .map_err(|error| Status::new(400, "BadRequest", error.to_string()))?;
        parts.headers.insert(IMPERSONATE_USER, user);
        parts.headers.insert(IMPERSONATE_GROUP, HeaderValue::from_static("system:nodes"));
        let request = Request::from_parts(parts, kube::client::Body::from(body));
        answer(self.cluster.send_raw(request)).await
    }

    /// What the node asks for itself, whichever way its request came.
    async fn for_the_node(
        &self,
        node: &NodeName,
        parts: http::request::Parts,
        body: Bytes,
    ) -> Result<Response<Body>, Status> {
        match &self.node_identity {
            Some(rights) if !is_discovery(parts.uri.path()) => {
                self.as_the_node((node, rights), parts, body).await
            }
            _ => self.of_the_node(parts).await,
        }
    }

    async fn pass_on(&self, node: &NodeName, request: Request<Incoming>) -> Result<Response<Body>, Status> {
        let is_upgrade = request.headers().contains_key(header::UPGRADE);
        let is_node = request.headers().get(CALLER).is_some_and(|caller| caller == "node");
        if request.method() == Method::CONNECT || is_upgrade && is_node {
            let why = "a node itself opens no connections to pods through its link: show a token";
            return Err(Status::new(400, "BadRequest", why));
        }
        let bearer =
            request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let has_token = bearer.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        if is_upgrade && has_token {
            return self.upgrade(request).await;
        }
        let (mut parts, body) = request.into_parts();
        if is_node {
            let body = read(body).await?;
            return self.for_the_node(node, parts, body).await;
        }
        if !has_token {
            let why = "requests of nodes need a token of their own: CloudCore lends its rights to nobody";
            return Err(Status::new(401, "Unauthorized", why));
        }
        strip(&mut parts.headers);
        let request = Request::from_parts(parts, kube::client::Body::from(read(body).await?));
        answer(self.cluster.send_as_caller(request)).await
    }
}

/// The API server's answer, in time, without what is of its connection.
async fn answer(
    asked: impl Future<Output = Result<Response<kube::client::Body>, Status>>,
) -> Result<Response<Body>, Status> {
    let late = |_| Status::new(504, "Timeout", format!("the API server did not answer within {ANSWER:?}"));
    let mut answer = tokio::time::timeout(ANSWER, asked).await.map_err(late)??;
    strip(answer.headers_mut());
    Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
}

/// A whole body, within the API server's own limits.
async fn read(body: Incoming) -> Result<Bytes, Status> {
    match tokio::time::timeout(BODY_TIME, Limited::new(body, BODY).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Status::too_large(BODY)),
        Ok(Err(error)) => Err(Status::new(400, "BadRequest", format!("reading the request body: {error}"))),
        Err(_) => Err(Status::new(408, "Timeout", "the request body took too long")),
    }
}

fn strip(headers: &mut HeaderMap) {
    for name in NOT_PASSED {
        headers.remove(name);
    }
    let of_proxies: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-remote-")).cloned().collect();
    for name in of_proxies {
        headers.remove(name);
    }
}

fn whole(code: u16, value: &Value) -> Response<Body> {
    let body =
        Full::new(Bytes::from(value.to_string())).map_err(|never: Infallible| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn refusal(status: &Status) -> Response<Body> {
    whole(status.code, &status.to_json())
}

#[cfg(test)]
mod tests;
