//! Hands an upgraded connection on to the runtime's streaming server: the client's upgrade request goes there as it
//! is, the answer comes back as it is, then raw bytes go both ways.

use std::time::Duration;

use bytes::Bytes;
use http::header::UPGRADE;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use httpproxy::{Framing, Terms};
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::ServerState;
use super::answer::{self, Answer};
use super::target::HttpRefusal;

/// The streaming server is on this machine.
const CONNECT: Duration = Duration::from_secs(5);
/// It answers the upgrade when the program has been started.
const ANSWER: Duration = Duration::from_secs(60);
/// What is read of an answer that is no upgrade.
const REFUSAL: usize = 64 * 1024;

/// Errors unless the client wants its connection upgraded.
pub(super) fn check(request: &Request<Incoming>) -> Result<(), HttpRefusal> {
    if httpproxy::wants_upgrade(request.headers()) {
        return Ok(());
    }
    let text = "unable to upgrade: missing upgrade headers in request";
    Err(HttpRefusal::new(StatusCode::BAD_REQUEST, text))
}

fn gateway(what: &str, error: &dyn std::fmt::Display) -> HttpRefusal {
    let text = format!("{what} the container runtime's streaming server: {error}");
    HttpRefusal::new(StatusCode::BAD_GATEWAY, text)
}

impl ServerState {
    /// A place for one more session.
    pub(crate) fn session(&self) -> Result<OwnedSemaphorePermit, HttpRefusal> {
        let full =
            |_| HttpRefusal::new(StatusCode::TOO_MANY_REQUESTS, "too many sessions are open on this node");
        self.sessions.clone().try_acquire_owned().map_err(full)
    }

    pub(crate) async fn proxy(
        &self,
        mut request: Request<Incoming>,
        url: &str,
    ) -> Result<Answer, HttpRefusal> {
        let place = self.session()?;
        let url: Uri = url.parse().map_err(|error| gateway("reading the URL of", &error))?;
        let onward = onward(&request, &url)?;
        let upgrade = request.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
        let terms = Terms {
            patience: ANSWER,
            idle: self.streaming_idle,
            framing: Framing::of(upgrade.unwrap_or_default()),
            stop: self.stop.clone(),
        };
        let (stream, client) = (connect(&url).await?, hyper::upgrade::on(&mut request));
        let response = httpproxy::hand_on(stream, onward, client, terms, place).await;
        let response = response.map_err(|error| gateway("asking", &error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return refused(response).await;
        }
        let (parts, _) = response.into_parts();
        let mut answer = Response::new(answer::whole(Bytes::new()));
        *answer.status_mut() = parts.status;
        *answer.headers_mut() = parts.headers;
        Ok(answer)
    }
}

/// The client's request, for the runtime's URL.
fn onward(request: &Request<Incoming>, url: &Uri) -> Result<Request<Empty<Bytes>>, HttpRefusal> {
    if url.scheme_str() != Some("http") {
        return Err(gateway("using", &"it wants TLS, switch enable_tls_streaming off"));
    }
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let host = url.authority().map_or("localhost", |authority| authority.as_str());
    let host = HeaderValue::from_str(host).map_err(|error| gateway("naming", &error))?;
    let mut onward = Request::new(Empty::new());
    *onward.method_mut() = request.method().clone();
    *onward.uri_mut() = path.parse().map_err(|error| gateway("reading the URL of", &error))?;
    *onward.headers_mut() = httpproxy::onward(request.headers(), host);
    Ok(onward)
}

async fn connect(url: &Uri) -> Result<TcpStream, HttpRefusal> {
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    // A runtime that listens on all addresses says so in its URL.
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    let connect = TcpStream::connect((host, url.port_u16().unwrap_or(80)));
    match tokio::time::timeout(CONNECT, connect).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(gateway("connecting to", &error)),
        Err(error) => Err(gateway("connecting to", &error)),
    }
}

/// The runtime's own words.
async fn refused(response: Response<Incoming>) -> Result<Answer, HttpRefusal> {
    let status = response.status();
    let body = tokio::time::timeout(ANSWER, Limited::new(response.into_body(), REFUSAL).collect()).await;
    let bytes = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    Err(HttpRefusal::new(status, String::from_utf8_lossy(&bytes).trim_end()))
}
