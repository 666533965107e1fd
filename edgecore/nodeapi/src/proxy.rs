//! Hands an upgraded connection on to the runtime's streaming server: the client's upgrade request goes there as it
//! is, the answer comes back as it is, then raw bytes go both ways.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::ServerState;
use super::answer::{self, Answer};
use super::target::HttpRefusal;

/// The streaming server is on this machine.
const CONNECT: Duration = Duration::from_secs(5);
/// It answers the upgrade when the program has been started.
const ANSWER: Duration = Duration::from_secs(60);
/// What is read of an answer that is no upgrade.
const REFUSAL: usize = 64 * 1024;
const BUFFER: usize = 16 * 1024;
/// When the client has said all, the runtime's side may still say this long what is under way.
const LINGER: Duration = Duration::from_secs(10);

/// Errors unless the client wants its connection upgraded.
pub(super) fn check(request: &Request<Incoming>) -> Result<(), HttpRefusal> {
    let wants = request.headers().get(CONNECTION).and_then(|value| value.to_str().ok());
    let wants = wants.is_some_and(|value| value.to_ascii_lowercase().contains("upgrade"));
    if wants && request.headers().contains_key(UPGRADE) {
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
        let mut response = ask(&url, onward).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return refused(response).await;
        }
        let runtime = hyper::upgrade::on(&mut response);
        let client = hyper::upgrade::on(&mut request);
        let (idle, stop) = (self.streaming_idle, self.stop.clone());
        daemon::spawn(async move {
            let session = async {
                if let (Ok(client), Ok(runtime)) = tokio::join!(client, runtime) {
                    carry(client, runtime, idle).await;
                }
            };
            tokio::select! {
                _ = stop.cancelled() => {}
                _ = session => {}
            }
            drop(place);
        });
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
    *onward.headers_mut() = request.headers().clone();
    let headers = onward.headers_mut();
    headers.insert(HOST, host);
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRANSFER_ENCODING);
    Ok(onward)
}

async fn ask(url: &Uri, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, HttpRefusal> {
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    // A runtime that listens on all addresses says so in its URL.
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    let connect = TcpStream::connect((host, url.port_u16().unwrap_or(80)));
    let stream = match tokio::time::timeout(CONNECT, connect).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(gateway("connecting to", &error)),
        Err(error) => return Err(gateway("connecting to", &error)),
    };
    let talk = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the session, or with the answer.
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await
    };
    match tokio::time::timeout(ANSWER, talk).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(gateway("asking", &error)),
        Err(error) => Err(gateway("asking", &error)),
    }
}

/// The runtime's own words.
async fn refused(response: Response<Incoming>) -> Result<Answer, HttpRefusal> {
    let status = response.status();
    let body = tokio::time::timeout(ANSWER, Limited::new(response.into_body(), REFUSAL).collect()).await;
    let bytes = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    Err(HttpRefusal::new(status, String::from_utf8_lossy(&bytes).trim_end()))
}

/// Copies both ways until one side ends, or nothing has moved for `idle`.
async fn carry(client: Upgraded, runtime: Upgraded, idle: Duration) {
    let moved = Arc::new(Moved { began: Instant::now(), last: AtomicU64::new(0) });
    let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (from_runtime, to_runtime) = tokio::io::split(TokioIo::new(runtime));
    let back = pump(from_runtime, to_client, &moved);
    let forth = pump(from_client, to_runtime, &moved);
    tokio::pin!(back);
    tokio::select! {
        () = &mut back => {}
        () = moved.rested(idle) => {}
        () = forth => {
            let _ = tokio::time::timeout(LINGER, back).await;
        }
    }
}

/// When bytes moved last, in milliseconds after the beginning.
struct Moved {
    began: Instant,
    last: AtomicU64,
}

impl Moved {
    fn note(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Resolves when nothing has moved for `idle`.
    async fn rested(&self, idle: Duration) {
        loop {
            let due = self.began + Duration::from_millis(self.last.load(Ordering::Relaxed)) + idle;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, moved: &Moved) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        moved.note();
        let Some(bytes) = buffer.get(..count) else { break };
        if to.write_all(bytes).await.is_err() || to.flush().await.is_err() {
            break;
        }
        moved.note();
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_rests_only_when_nothing_moved_for_the_whole_time() {
        let idle = Duration::from_secs(100);
        let moved = Arc::new(Moved { began: Instant::now(), last: AtomicU64::new(0) });
        let began = Instant::now();
        let (other, noting) = (moved.clone(), async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            moved.note();
        });
        tokio::join!(other.rested(idle), noting);
        assert_eq!(began.elapsed(), Duration::from_secs(160));
    }

    #[tokio::test]
    async fn bytes_are_copied_to_the_end_and_the_end_is_passed_on() {
        let (mut near, far) = tokio::io::duplex(64);
        let (near_out, mut far_out) = tokio::io::duplex(64);
        let moved = Moved { began: Instant::now(), last: AtomicU64::new(0) };
        let write = async {
            near.write_all(&[7; 1000]).await.unwrap();
            drop(near);
        };
        let read = async {
            let mut all = Vec::new();
            far_out.read_to_end(&mut all).await.unwrap();
            all
        };
        let ((), (), all) = tokio::join!(write, pump(far, near_out, &moved), read);
        assert_eq!(all, [7; 1000]);
    }
}
