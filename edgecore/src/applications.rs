//! Requests of MetaServer to a KubeEdge cloud, which takes no streams: each becomes an application, a message that is answered by
//! one (docs/protocol/transport.md 1.9).
//!
//! ```text
//! MetaServer --HTTP/1.1 on a pipe--> [this room] --application--> session --> DynamicController
//! ```
//!
//! Applications carry no token, only the node's name: such a cloud can answer the node itself and nobody else. It pushes what is
//! watched as objects of the node, in any order and not all of it; so a watch here is told what comes ([`feed`], [`stream`]), and
//! every few minutes that it has to list.

mod feed;
mod stream;
mod watches;

use std::convert::Infallible;
use std::time::Duration;

use apimachinery::Status;
use apimachinery::path::{RequestPath, is_discovery, query_pairs};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use message::{ApiCall, NodeName};
use metamanager::Cloud;
use metamanager::pushes::Pushes;
use serde_json::json;
use tokio::io::DuplexStream;

use self::feed::{Feed, Selection};
use self::stream::Telling;
use self::watches::{Joined, Watches};

/// Bytes between MetaServer and here.
const PIPE: usize = 32 * 1024;
/// What Kubernetes' Protobuf begins with.
const PROTOBUF: &[u8] = b"k8s\0";
/// Documents of which such a cloud hands on the list, and none that is in it.
const OPENAPI: &str = "/openapi/v3";
/// As Kubernetes' limit for bodies.
const BODY: usize = 3 * 1024 * 1024;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Asks the cloud by applications. Clones share the link.
#[derive(Clone)]
pub(crate) struct Applications {
    cloud: Cloud,
    node: NodeName,
    pushes: Pushes,
    watches: Watches,
}

impl Applications {
    /// Has to be made within a runtime.
    pub(crate) fn new(cloud: Cloud, node: NodeName, pushes: Pushes) -> Applications {
        Applications { watches: Watches::new(cloud.clone(), pushes.clone()), cloud, node, pushes }
    }

    /// A stream for one HTTP/1.1 request.
    pub(crate) fn connect(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(PIPE);
        let room = self.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let room = room.clone();
                async move { Ok::<_, Infallible>(room.answer(request).await) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            let serving = server.keep_alive(false).serve_connection(TokioIo::new(far), answer);
            if let Err(error) = serving.await {
                tracing::debug!(%error, "a request of MetaServer broke off");
            }
        });
        near
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let answered = match is_watch(&request) {
            true => self.watch(&request).await,
            false => self.apply(request).await,
        };
        answered.unwrap_or_else(|status| whole(status.code, status.to_json().to_string().into()))
    }

    /// Events of what is pushed. What the cloud does not push is listed more often.
    async fn watch(&self, request: &Request<Incoming>) -> Result<Response<Body>, Status> {
        may_ask(request)?;
        let (path, media, body) = (request.uri().to_string(), String::new(), Vec::new());
        let application =
            ApiCall { method: "GET", path, media, body }.application(&self.node, is_discovery)?;
        let of = Selection::of(&application)?;
        let lasts = seconds(request);
        let mut link = self.cloud.link();
        link.mark_unchanged();
        let joined = match of.why_never_pushed() {
            Some(why) => {
                tracing::debug!(
                    operation = application.about(),
                    why,
                    "the cloud is not asked to push what is watched"
                );
                None
            }
            None => match self.watches.join(&application, lasts > stream::DOUBT).await {
                Ok(joined) => Some(joined),
                // Nobody is there to be asked.
                Err(status) if status.code == 503 => return Err(status),
                Err(_) => None,
            },
        };
        let telling =
            Telling { feed: Feed::new(of, since(request)), link, lasts, watches: self.watches.clone() };
        let body = match joined {
            Some(Joined { reading, pushes, is_new }) => telling.into_body(pushes, Some((reading, is_new))),
            None => telling.into_body(self.pushes.subscribe(), None),
        };
        Ok(response(200, body))
    }

    async fn apply(&self, request: Request<Incoming>) -> Result<Response<Body>, Status> {
        may_ask(&request)?;
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, BODY).collect().await.map_err(|_| Status::too_large(BODY))?;
        let media = parts.headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
        let (media, body) = as_json(media, body.to_bytes())?;
        let (method, path) = (method(&parts.method)?, parts.uri.to_string());
        if path.starts_with(OPENAPI) {
            return Err(Status::unavailable("a KubeEdge cloud does not answer with parts of OpenAPI v3"));
        }
        let call = ApiCall { method, path, media, body };
        let makes = call.method == "POST";
        let application = call.application(&self.node, is_discovery)?;
        let answered = self.cloud.apply(application).await.map_err(|error| {
            Status::new(
                503,
                "ServiceUnavailable",
                format!("the cloud did not carry out the request: {error}"),
            )
        })??;
        let body = match answered.as_slice() {
            [] => json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}).to_string().into(),
            // Such a cloud asks for discovery in its own client's encoding.
            answered if answered.starts_with(PROTOBUF) => {
                kubeapi::from_protobuf(answered)?.to_string().into()
            }
            _ => answered.into(),
        };
        Ok(whole(if makes { 201 } else { 200 }, body))
    }
}

fn method(method: &Method) -> Result<&'static str, Status> {
    let known = ["GET", "POST", "PUT", "PATCH", "DELETE"].into_iter().find(|known| *known == method.as_str());
    known.ok_or_else(|| {
        Status::new(405, "MethodNotAllowed", format!("a KubeEdge cloud has no way to {method}"))
    })
}

/// A body as such a cloud reads it: JSON, but for patches, which it hands on. 415 for what is not known in Protobuf.
fn as_json(media: &str, body: Bytes) -> Result<(String, Vec<u8>), Status> {
    match body.starts_with(PROTOBUF) {
        true => Ok(("application/json".to_owned(), kubeapi::from_protobuf(&body)?.to_string().into_bytes())),
        false => Ok((media.to_owned(), body.into())),
    }
}

/// A KubeEdge cloud knows the node only.
fn may_ask(request: &Request<Incoming>) -> Result<(), Status> {
    let is_node = request.headers().get("causeway-caller").is_some_and(|caller| caller == "node");
    if is_node || is_discovery(request.uri().path()) {
        return Ok(());
    }
    // What MetaServer asks for itself, which only Causeway's cloud has.
    if !request.headers().contains_key(AUTHORIZATION) {
        return Err(Status::new(
            503,
            "ServiceUnavailable",
            "a KubeEdge cloud does not tell by which keys tokens are signed",
        ));
    }
    let why = "the cloud is KubeEdge's, which hands on requests of the node itself only: it cannot tell what a token allows";
    Err(Status::new(403, "Forbidden", why))
}

fn is_watch(request: &Request<Incoming>) -> bool {
    let asks =
        |(name, value): &(String, String)| name == "watch" && matches!(value.as_str(), "" | "1" | "true");
    let by_path =
        matches!(RequestPath::parse(request.uri().path()), Some(RequestPath::Resource(path)) if path.watch);
    request.method() == Method::GET
        && (by_path || query_pairs(request.uri().query().unwrap_or_default()).iter().any(asks))
}

/// The version after which events are wanted.
fn since(request: &Request<Incoming>) -> i64 {
    parameter(request, "resourceVersion").unwrap_or_default()
}

/// How long a watch is wanted.
fn seconds(request: &Request<Incoming>) -> Duration {
    Duration::from_secs(parameter(request, "timeoutSeconds").unwrap_or(stream::LIST.as_secs()))
}

fn parameter<T: std::str::FromStr>(request: &Request<Incoming>, name: &str) -> Option<T> {
    let pairs = query_pairs(request.uri().query().unwrap_or_default());
    pairs.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.parse().ok())
}

fn whole(code: u16, body: Bytes) -> Response<Body> {
    let is_json = body.first().is_some_and(|first| b"{[".contains(first));
    let mut whole = response(code, Full::new(body).boxed_unsync());
    if !is_json {
        whole.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    whole
}

fn response(code: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests;
