//! One request to the API server, over a stream of its own.

use std::time::Duration;

use apimachinery::Status;
use bytes::{Bytes, BytesMut};
use daemon::errors::describe;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::caller::Caller;
use crate::upstream::{Io, Upstream};

/// What the relay takes for the server's name.
pub(crate) const SERVER: HeaderValue = HeaderValue::from_static("kubernetes.default.svc");
/// Time for a stream.
const OPEN: Duration = Duration::from_secs(10);
/// Time for the head of an answer, and for the rest of one that is read whole.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);
/// Most of an answer that is read whole, in bytes.
pub(crate) const WHOLE: usize = 16 * 1024 * 1024;
/// Larger answers are read a few at a time.
const LARGE: usize = 1024 * 1024;
static LARGE_ONES: Semaphore = Semaphore::const_new(4);
/// Most of a refusal that is read.
const REFUSAL: usize = 64 * 1024;

/// The API server did not answer: the node is cut off, or what is behind the link is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreached {
    #[error("the node is cut off from the cloud")]
    CutOff,
    #[error("the API server did not answer: {0}")]
    Silent(String),
}

/// Why there is no answer to use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Unreached(Unreached),
    /// The API server's word.
    #[error(transparent)]
    Refused(Status),
}

impl From<Unreached> for Failure {
    fn from(unreached: Unreached) -> Failure {
        Failure::Unreached(unreached)
    }
}

/// A stream for one request.
pub(crate) async fn open(upstream: &dyn Upstream) -> Result<Box<dyn Io>, Unreached> {
    match timeout(OPEN, upstream.open()).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(_)) => Err(Unreached::CutOff),
        Err(_) => Err(Unreached::Silent(format!("no stream within {OPEN:?}"))),
    }
}

/// Asks with GET; `path` has its query. `caller` is `None` for what the relay answers itself. The head of the answer,
/// whatever its code is but for those that say that nobody was reached.
async fn head(
    upstream: &dyn Upstream,
    caller: Option<&Caller>,
    path: &str,
    accept: &'static str,
) -> Result<Response<Incoming>, Unreached> {
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = path.parse().map_err(|_| Unreached::Silent(format!("{path:?} is not a path")))?;
    let headers = request.headers_mut();
    headers.insert(HOST, SERVER);
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    headers.insert(USER_AGENT, HeaderValue::from_static("causeway-metaserver"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Some(caller) = caller {
        caller.show(headers);
    }
    let stream = open(upstream).await?;
    let answer = httpproxy::ask(stream, request, ANSWER).await;
    answer.map_err(|error| Unreached::Silent(describe(&error)))
}

/// True for codes of those in between.
fn is_of_the_way(code: StatusCode) -> bool {
    matches!(code, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// An answer of 200, whose body is still to come.
pub(crate) async fn stream(
    upstream: &dyn Upstream,
    caller: &Caller,
    path: &str,
) -> Result<Response<Incoming>, Failure> {
    let answer = head(upstream, Some(caller), path, "application/json").await?;
    if answer.status() == StatusCode::OK { Ok(answer) } else { Err(refusal(answer).await) }
}

/// An answer of 200, whole.
pub(crate) async fn whole(
    upstream: &dyn Upstream,
    caller: Option<&Caller>,
    path: &str,
    accept: &'static str,
) -> Result<Bytes, Failure> {
    let answer = head(upstream, caller, path, accept).await?;
    if answer.status() != StatusCode::OK {
        return Err(refusal(answer).await);
    }
    match timeout(ANSWER, collect(answer.into_body())).await {
        Ok(read) => read,
        Err(_) => Err(Unreached::Silent(format!("no whole answer within {ANSWER:?}")).into()),
    }
}

/// Reads a body of at most [`WHOLE`] bytes; only a few large ones at a time.
async fn collect(mut body: Incoming) -> Result<Bytes, Failure> {
    let (mut text, mut place) = (BytesMut::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Unreached::Silent(describe(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        if text.len() + data.len() > WHOLE {
            let text = format!(
                "the answer has more than {WHOLE} bytes, which is too much for this node: ask for less with limit, a \
                 namespace or a selector"
            );
            return Err(Failure::Refused(Status::new(413, "RequestEntityTooLarge", text)));
        }
        if text.len() + data.len() > LARGE && place.is_none() {
            place = LARGE_ONES.acquire().await.ok();
        }
        text.extend_from_slice(&data);
    }
    Ok(text.freeze())
}

/// A request with a body: the code of the answer, and its body as JSON.
pub(crate) async fn send(
    upstream: &dyn Upstream,
    caller: &Caller,
    method: &Method,
    path: &str,
    (media, body): (&str, Bytes),
) -> Result<(u16, Bytes), Unreached> {
    let silent = |why: String| Unreached::Silent(why);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method.clone();
    *request.uri_mut() = path.parse().map_err(|_| silent(format!("{path:?} is not a path")))?;
    let headers = request.headers_mut();
    headers.insert(HOST, SERVER);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static("causeway-metaserver"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let media = HeaderValue::from_str(media).map_err(|error| silent(error.to_string()))?;
    headers.insert(CONTENT_TYPE, media);
    caller.show(headers);
    let stream = open(upstream).await?;
    let answer = httpproxy::ask(stream, request, ANSWER).await.map_err(|error| silent(describe(&error)))?;
    let code = answer.status().as_u16();
    match timeout(ANSWER, collect(answer.into_body())).await {
        Ok(Ok(body)) => Ok((code, body)),
        Ok(Err(Failure::Unreached(unreached))) => Err(unreached),
        Ok(Err(Failure::Refused(status))) => Err(silent(status.to_string())),
        Err(_) => Err(silent(format!("no whole answer within {ANSWER:?}"))),
    }
}

/// What an answer says that is not 200.
async fn refusal(answer: Response<Incoming>) -> Failure {
    let code = answer.status();
    let body = timeout(ANSWER, Limited::new(answer.into_body(), REFUSAL).collect()).await;
    let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    let told = serde_json::from_slice::<Status>(&body).ok().filter(|status| status.code == code.as_u16());
    let status = told.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(&body).trim().chars().take(500).collect::<String>();
        let reason = code.canonical_reason().unwrap_or("Unknown").replace(' ', "");
        Status { code: code.as_u16(), reason: reason.into(), message: text, ..Status::default() }
    });
    match is_of_the_way(code) && !status.message.contains("Too large resource version") {
        true => Failure::Unreached(Unreached::Silent(status.to_string())),
        false => Failure::Refused(status),
    }
}
