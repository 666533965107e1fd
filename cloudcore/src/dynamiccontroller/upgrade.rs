//! Connections that callers on nodes upgrade: commands, terminals and ports of pods elsewhere.

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::time::Duration;

use message::Status;

use super::{Body, Requests, answer, strip};

/// What Kubernetes' streams are upgraded to.
const PROTOCOLS: [&str; 2] = ["websocket", "spdy/3.1"];
/// A connection in which nothing moves ends after this, as at the API server's own kubelet connections.
const IDLE: Duration = Duration::from_secs(4 * 3600);
/// Between the answer and the first byte.
const UPGRADE: Duration = Duration::from_secs(10);

impl Requests {
    /// Hands on a request that upgrades its connection, with its caller's token. Bytes go both ways until either end closes.
    pub(super) async fn upgrade(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Status> {
        let wanted = request.headers().get(header::UPGRADE).cloned();
        let is_known = |wanted: &HeaderValue| {
            wanted
                .to_str()
                .is_ok_and(|wanted| PROTOCOLS.iter().any(|known| wanted.eq_ignore_ascii_case(known)))
        };
        let Some(wanted) = wanted.filter(is_known) else {
            let why =
                "a connection through a node's link is upgraded to websocket or SPDY/3.1 and to nothing else";
            return Err(Status::new(400, "BadRequest", why));
        };
        let client = hyper::upgrade::on(&mut request);
        let (mut parts, _) = request.into_parts();
        strip(&mut parts.headers);
        upgraded(&mut parts.headers, &wanted);
        let asked = Request::from_parts(parts, kube::client::Body::empty());
        let mut answered = answer(self.cluster.send_as_caller(asked)).await?;
        if answered.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answered);
        }
        let server = hyper::upgrade::on(&mut answered);
        tokio::spawn(async move {
            let both = async { tokio::try_join!(client, server) };
            match tokio::time::timeout(UPGRADE, both).await {
                Ok(Ok((client, server))) => httpproxy::carry(client, TokioIo::new(server), IDLE).await,
                Ok(Err(error)) => tracing::debug!(%error, "a connection of a node was not upgraded"),
                Err(_) => tracing::debug!("a connection of a node was not upgraded in time"),
            }
        });
        let mut told = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        *told.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *told.headers_mut() = std::mem::take(answered.headers_mut());
        upgraded(told.headers_mut(), &wanted);
        Ok(told)
    }
}

fn upgraded(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, protocol.clone());
}
