//! How a tunnel begins: an HTTP request that is upgraded (docs/protocol/transport.md 6.1).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Where edges ask for a tunnel.
pub const PATH: &str = "/v1/kubeedge/connect";
/// The node's name, which its certificate has too.
pub const NODE: HeaderName = HeaderName::from_static("sessionhostnameoverride");
/// An address of the node.
pub const ADDRESS: HeaderName = HeaderName::from_static("sessioninternalip");

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("asking for a tunnel")]
    Ask(#[from] httpproxy::AskError),
    #[error("the cloud answered {0} instead of opening a tunnel")]
    Refused(StatusCode),
    #[error("the cloud's answer is none to this request")]
    Accept,
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    #[error("{0:?} cannot be a header")]
    Header(String),
}

/// Asks for a tunnel over `stream`, which is TLS already.
///
/// # Errors
/// [`DialError`]: it is refused, or the connection broke.
pub async fn dial<S>(
    stream: S,
    host: &str,
    node: &str,
    address: &str,
    patience: Duration,
) -> Result<TokioIo<Upgraded>, DialError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| DialError::Header(text.to_owned()));
    let key = STANDARD.encode(rand::random::<[u8; 16]>());
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = Uri::from_static(PATH);
    *request.headers_mut() = HeaderMap::from_iter([
        (HOST, value(host)?),
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
        (SEC_WEBSOCKET_KEY, value(&key)?),
        (NODE, value(node)?),
        (ADDRESS, value(address)?),
    ]);
    let mut answer = httpproxy::ask(stream, request, patience).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(DialError::Refused(answer.status()));
    }
    let accepted = answer.headers().get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
    if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(DialError::Accept);
    }
    Ok(TokioIo::new(hyper::upgrade::on(&mut answer).await?))
}

/// The answer to a request for a tunnel, and the connection it becomes. `None`: the request is none.
pub fn accept(request: &mut Request<Incoming>) -> Option<(Response<Empty<Bytes>>, OnUpgrade)> {
    let headers = request.headers();
    let is_websocket =
        headers.get(UPGRADE).is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if request.uri().path() != PATH || !is_websocket || !httpproxy::wants_upgrade(headers) {
        return None;
    }
    let accepted = derive_accept_key(headers.get(SEC_WEBSOCKET_KEY)?.as_bytes());
    let mut answer = Response::new(Empty::new());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = HeaderMap::from_iter([
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accepted).ok()?),
    ]);
    Some((answer, hyper::upgrade::on(request)))
}
