//! One request to the kubelet, and the session it may become.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::errors::describe;
use http::header::{AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use httpproxy::{Framing, Moving, Terms};
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::passes::{Pass, Passes};
use crate::refusal::{Body, Refusal, whole};
use crate::{Settings, holder, paths};

/// Requests under way at once, sessions and followed logs among them: more than people need, less than hurts.
const REQUESTS: usize = 64;
/// The kubelet is on this machine.
const CONNECT: Duration = Duration::from_secs(5);
const HANDSHAKE: Duration = Duration::from_secs(10);
/// It answers when it has asked who shows the token, and has started the program.
const ANSWER: Duration = Duration::from_secs(60);
/// Sessions and followed logs in which nothing moves end after this (kubelet's `streamingConnectionIdleTimeout`).
const IDLE: Duration = Duration::from_secs(4 * 3600);
/// Other answers of which nothing comes break off.
const STUCK: Duration = Duration::from_secs(60);
/// What is read of the kubelet's reasons.
const REASONS: usize = 4 * 1024;
/// A token among the protocols of a WebSocket (`base64url.bearer.authorization.k8s.io.TOKEN`).
const BEARER: &str = "base64url.bearer.authorization.k8s.io.";

/// The way to the kubelet.
pub(crate) struct Forward {
    kubelet: SocketAddr,
    owner: u32,
    passes: Passes,
    requests: Arc<Semaphore>,
}

impl Forward {
    pub(crate) fn new(settings: &Settings, passes: Passes) -> Forward {
        let requests = Arc::new(Semaphore::new(REQUESTS));
        Forward { kubelet: settings.kubelet, owner: settings.owner, passes, requests }
    }

    pub(crate) async fn answer(
        &self,
        mut request: Request<Incoming>,
        stop: CancellationToken,
    ) -> Result<Response<Body>, Refusal> {
        let path = request.uri().path();
        paths::check(request.method(), path).map_err(|status| {
            Refusal(status, format!("the Node API of a hub has no {} {path}", request.method()))
        })?;
        let busy = |_| {
            Refusal(StatusCode::TOO_MANY_REQUESTS, "too many requests are under way on this node".to_owned())
        };
        let place: Arc<OwnedSemaphorePermit> =
            Arc::new(self.requests.clone().try_acquire_owned().map_err(busy)?);
        let stream = self.connect().await?;
        let pass = self.passes.issue().map_err(|error| Refusal::gateway(error.to_string()))?;
        let client = hyper::upgrade::on(&mut request);
        let lasts = request.uri().query().is_some_and(|query| query.contains("follow="));
        let upgrade = request.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
        let framing = Framing::of(upgrade.unwrap_or_default());
        let terms = Terms { patience: ANSWER, idle: IDLE, framing, stop };
        let onward = onward(request, &pass)?;
        let answered = httpproxy::hand_on(stream, onward, client, terms, place.clone()).await;
        // Who it is was asked by now.
        drop(pass);
        let answered = answered.map_err(|error| self.failed("asking", &describe(&error)))?;
        let (head, body) = answered.into_parts();
        match head.status {
            StatusCode::SWITCHING_PROTOCOLS => Ok(Response::from_parts(head, whole(bytes::Bytes::new()))),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(self.not_taken(head.status, &reasons(body).await))
            }
            status => {
                let body = Moving::new(body, if lasts { IDLE } else { STUCK });
                // The place is taken until all of it is read.
                let body = body.map_frame(move |frame| {
                    let _place = &place;
                    frame
                });
                let mut answer = Response::new(body.boxed_unsync());
                *answer.status_mut() = status;
                *answer.headers_mut() = httpproxy::answered(&head.headers);
                Ok(answer)
            }
        }
    }

    /// A connection to the kubelet. Its certificate is of its own making, so it proves nothing: the proof is that a process of
    /// EdgeCore's own user has the other end. That is asked after the handshake, in which nothing of ours is told: only then has
    /// the other end been taken by who answers.
    async fn connect(&self) -> Result<TlsStream<TcpStream>, Refusal> {
        let tcp = match timeout(CONNECT, TcpStream::connect(self.kubelet)).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => return Err(self.failed("connecting to", &error.to_string())),
            Err(_) => return Err(self.failed("connecting to", &format!("nothing within {CONNECT:?}"))),
        };
        let ends = tcp.peer_addr().and_then(|theirs| Ok((theirs, tcp.local_addr()?)));
        let (theirs, ours) = ends.map_err(|error| self.failed("connecting to", &error.to_string()))?;
        let stream = httpproxy::unverified_tls(tcp, HANDSHAKE).await;
        let stream = stream.map_err(|error| self.failed("connecting to", &describe(&error)))?;
        let owner = self.owner;
        let checked = daemon::blocking(move || Ok(holder::check(theirs, ours, owner))).await;
        let checked = checked.map_err(|error| self.failed("looking who answers as", &error.to_string()))?;
        match checked {
            Ok(()) => Ok(stream),
            Err(error) => {
                let why = describe(&error);
                tracing::warn!(peer = %self.kubelet, error = why, "this is not taken for the kubelet, and is shown nothing");
                Err(self.failed("looking who answers as", &format!("{why}; nothing was shown to it")))
            }
        }
    }

    fn failed(&self, step: &str, why: &str) -> Refusal {
        let key = "modules.metaManager.metaServer.hub.kubelet";
        Refusal::gateway(format!("{step} the kubelet of this node at {} ({key}): {why}", self.kubelet))
    }

    /// The kubelet's 401 or 403 is not about who asked the cloud.
    fn not_taken(&self, status: StatusCode, reasons: &str) -> Refusal {
        let text = format!(
            "it answered {status} to EdgeCore itself: {reasons}; its authentication.webhook and authorization.mode Webhook have to \
             ask MetaServer, with the node's certificate"
        );
        self.failed("asking", &text)
    }
}

/// The request as the kubelet gets it: without what shows who asked the cloud, and with our token.
fn onward(request: Request<Incoming>, pass: &Pass) -> Result<Request<Incoming>, Refusal> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let unusable = || Refusal(StatusCode::BAD_REQUEST, format!("{path:?} is not a path"));
    let uri: Uri = path.parse().map_err(|_| unusable())?;
    let mut token = HeaderValue::from_str(&format!("Bearer {}", pass.text())).map_err(|_| unusable())?;
    token.set_sensitive(true);
    let mut onward = Request::new(body);
    *onward.method_mut() = parts.method;
    *onward.uri_mut() = uri;
    *onward.headers_mut() = headers(&parts.headers);
    onward.headers_mut().insert(AUTHORIZATION, token);
    Ok(onward)
}

fn headers(given: &HeaderMap) -> HeaderMap {
    let mut headers = httpproxy::onward(given, HeaderValue::from_static("node"));
    httpproxy::forget_the_way(&mut headers);
    headers.remove(COOKIE);
    let offered = given.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let offered = offered.flat_map(|list| list.split(',')).map(str::trim);
    let kept: Vec<&str> = offered.filter(|one| !one.starts_with(BEARER)).collect();
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if !kept.is_empty()
        && let Ok(kept) = HeaderValue::from_str(&kept.join(", "))
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, kept);
    }
    headers
}

/// The beginning of a body.
async fn reasons(body: Incoming) -> String {
    let read = timeout(STUCK, Limited::new(body, REASONS).collect()).await;
    let read = read.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    String::from_utf8_lossy(&read).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;

    use super::*;

    #[test]
    fn what_shows_who_asked_the_cloud_goes_no_further() {
        let mut given = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer a.b.c"),
            ("cookie", "a=b"),
            ("x-remote-user", "admin"),
            ("x-forwarded-uri", "/api/v1/nodes/edge-1/proxy/pods"),
            ("impersonate-user", "admin"),
            ("causeway-caller", "node"),
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "k"),
            ("sec-websocket-protocol", "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.YS5iLmM"),
            ("accept", "*/*"),
        ] {
            given.insert(name, HeaderValue::from_static(value));
        }
        let headers = headers(&given);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let wanted =
            ["accept", "connection", "host", "sec-websocket-key", "sec-websocket-protocol", "upgrade"];
        assert_eq!(
            (&names[..], &headers[SEC_WEBSOCKET_PROTOCOL]),
            (&wanted[..], &"v4.channel.k8s.io".parse().unwrap())
        );
    }
}
