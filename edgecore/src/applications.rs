//! Requests of MetaServer to a KubeEdge cloud, which takes no streams: each becomes an application, a message that is answered by
//! one (docs/protocol/transport.md 1.9).
//!
//! ```text
//! MetaServer --HTTP/1.1 on a pipe--> [this room] --application--> session --> DynamicController
//! ```
//!
//! Applications carry no token, only the node's name: such a cloud can answer the node itself and nobody else. It pushes what is
//! watched as objects of the node, which says nothing of when a list is complete; so a watch is told here after a while that it
//! has to list again.

use std::convert::Infallible;
use std::time::Duration;

use apimachinery::Status;
use apimachinery::path::{RequestPath, is_discovery, query_pairs};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use message::{ApiCall, NodeName};
use metamanager::Cloud;
use serde_json::json;
use tokio::io::DuplexStream;

/// Bytes between MetaServer and here.
const PIPE: usize = 32 * 1024;
/// As Kubernetes' limit for bodies.
const BODY: usize = 3 * 1024 * 1024;
/// How long a watch goes on before whoever watches lists again.
const RELIST: Duration = Duration::from_secs(60);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Asks the cloud by applications. Clones share the link.
#[derive(Clone)]
pub(crate) struct Applications {
    cloud: Cloud,
    node: NodeName,
}

impl Applications {
    pub(crate) fn new(cloud: Cloud, node: NodeName) -> Applications {
        Applications { cloud, node }
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
            true => may_ask(&request).map(|()| watch()),
            false => self.apply(request).await,
        };
        answered.unwrap_or_else(|status| whole(status.code, status.to_json().to_string().into()))
    }

    async fn apply(&self, request: Request<Incoming>) -> Result<Response<Body>, Status> {
        may_ask(&request)?;
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, BODY).collect().await.map_err(|_| Status::too_large(BODY))?;
        let media = parts.headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
        let call = ApiCall {
            method: method(&parts.method)?,
            path: parts.uri.to_string(),
            media: media.to_owned(),
            body: body.to_bytes().into(),
        };
        let makes = call.method == "POST";
        let application = call.application(&self.node, is_discovery)?;
        let answered = self.cloud.apply(application).await.map_err(|error| {
            Status::new(
                503,
                "ServiceUnavailable",
                format!("the cloud did not carry out the request: {error}"),
            )
        })??;
        let body = match answered.is_empty() {
            true => json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}).to_string().into(),
            false => answered.into(),
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

/// A watch that shows nothing and ends in time.
fn watch() -> Response<Body> {
    let status = Status::new(410, "Expired", "a KubeEdge cloud has no watches: list again");
    let ended = format!("{}\n", json!({"type": "ERROR", "object": status.to_json()}));
    let told = stream::once(async move {
        tokio::time::sleep(RELIST).await;
        Ok::<_, Infallible>(Frame::data(Bytes::from(ended)))
    });
    // The head goes at once.
    let body = StreamBody::new(stream::empty().chain(told)).boxed_unsync();
    response(200, body)
}

fn whole(code: u16, body: Bytes) -> Response<Body> {
    response(code, Full::new(body).boxed_unsync())
}

fn response(code: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use message::{Application, Asked, Json, Reply, Upstream};
    use metamanager::LinkState;
    use metamanager::cloud::Call;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::watch;

    use super::*;

    /// The application that a request becomes, if it does, and the answer to it, once the cloud did with it as told.
    async fn ask(
        text: &str,
        carry_out: impl FnOnce(Application) -> Application,
    ) -> (Option<Application>, String) {
        let (_link, state) = watch::channel(LinkState::Connected);
        let (cloud, mut calls) = Cloud::channel(state);
        let room = Applications::new(cloud, NodeName::new("e1").unwrap());
        let mut stream = room.connect();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let mut asked = None;
        tokio::select! {
            read = stream.read_to_string(&mut answer) => { read.unwrap(); }
            call = calls.recv() => {
                let Some(Call { upstream: Upstream::Application(Asked::One(application)), answer: to }) = call else { panic!() };
                asked = Some((*application).clone());
                let done = Json::encode(&carry_out(*application)).unwrap();
                to.send(Reply::Object(done)).unwrap();
                stream.read_to_string(&mut answer).await.unwrap();
            }
        }
        (asked, answer)
    }

    #[tokio::test]
    async fn the_node_asks_a_kubeedge_cloud_by_applications() {
        let text =
            "GET /api/v1/services?labelSelector=a HTTP/1.1\r\nHost: x\r\nCauseway-Caller: node\r\n\r\n";
        let (asked, answer) = ask(text, |asked| asked.approved(b"{\"kind\":\"ServiceList\"}".to_vec())).await;
        let asked = asked.unwrap();
        assert_eq!((asked.verb.as_str(), asked.key.as_str()), ("list", "/core/v1/services/null/null"));
        assert_eq!((asked.nodename.as_str(), asked.id.len()), ("e1", 64));
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("{\"kind\":\"ServiceList\"}"),
            "{answer}"
        );

        let text = "DELETE /api/v1/namespaces/d/pods/p HTTP/1.1\r\nHost: x\r\nCauseway-Caller: node\r\n\r\n";
        let (_, answer) = ask(text, |asked| asked.approved(Vec::new())).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Success"), "{answer}");
        let (_, answer) = ask(text, |asked| asked.rejected(Status::new(404, "NotFound", "gone"))).await;
        assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("gone"), "{answer}");
    }

    #[tokio::test]
    async fn a_token_is_worth_nothing_to_a_kubeedge_cloud_but_discovery_is_everybodys() {
        let of = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n\r\n");
        let (asked, answer) = ask(&of("/api/v1/services"), |asked| asked).await;
        assert!(asked.is_none() && answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(answer.contains("KubeEdge"), "{answer}");
        let (asked, answer) = ask(&of("/apis/apps/v1"), |asked| asked.approved(b"{}".to_vec())).await;
        assert_eq!(asked.unwrap().key, "/apis/apps/v1");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_is_told_to_list_again() {
        let text = "GET /api/v1/services?watch=1 HTTP/1.1\r\nHost: x\r\nCauseway-Caller: node\r\n\r\n";
        let (asked, answer) = ask(text, |asked| asked).await;
        assert!(asked.is_none() && answer.starts_with("HTTP/1.1 200") && answer.contains("410"), "{answer}");
    }
}
