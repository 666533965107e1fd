//! Hands a request on over a connection that is there already: the client's request goes there, the answer comes back, and
//! where the connection was upgraded, raw bytes go both ways (SPDY, WebSocket: whatever both ends speak).

#![deny(clippy::missing_errors_doc)]

mod backend;
mod carry;
mod moving;
mod pings;
mod session;

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

pub use backend::{BackendTlsError, unverified_tls};
pub use carry::carry;
pub use moving::Moving;
pub use pings::Framing;
pub use session::{Terms, hand_on};

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("the connection broke")]
    Connection(#[from] hyper::Error),
    #[error("no answer within {0:?}")]
    Late(Duration),
}

/// True if the client wants its connection upgraded.
pub fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE) && options(headers).any(|option| option.eq_ignore_ascii_case("upgrade"))
}

/// What the header `Connection` lists.
fn options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim)
}

/// Headers that are the business of one connection, or tell one server who asks.
const OWN: [HeaderName; 8] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    AUTHORIZATION,
    TE,
    TRAILER,
    EXPECT,
];

/// Takes out what only those in between may say: for whom they ask, and on which way a request came.
pub fn forget_the_way(headers: &mut HeaderMap) {
    const OF_THE_WAY: [&str; 5] = ["x-remote-", "x-forwarded-", "causeway-", "impersonate-", "forwarded"];
    let is_of_the_way = |name: &HeaderName| OF_THE_WAY.iter().any(|prefix| name.as_str().starts_with(prefix));
    let names: Vec<HeaderName> = headers.keys().filter(|name| is_of_the_way(name)).cloned().collect();
    names.iter().for_each(|name| drop(headers.remove(name)));
}

/// The client's headers as they go on to `host`. An upgrade is asked for if the client asks for it.
pub fn onward(headers: &HeaderMap, host: HeaderValue) -> HeaderMap {
    let mut onward = headers.clone();
    OWN.iter().for_each(|name| drop(onward.remove(name)));
    // What the client itself calls the business of this connection.
    options(headers).for_each(|name| drop(onward.remove(name)));
    let upgrade = headers.get(UPGRADE).filter(|_| wants_upgrade(headers)).cloned();
    for name in [CONNECTION, UPGRADE, CONTENT_LENGTH, TRANSFER_ENCODING] {
        onward.remove(name);
    }
    if let Some(upgrade) = upgrade {
        onward.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        onward.insert(UPGRADE, upgrade);
    }
    onward.insert(HOST, host);
    onward
}

/// The headers of an answer that is no upgrade as they go back to the client: all but those that are the business of one
/// connection.
pub fn answered(headers: &HeaderMap) -> HeaderMap {
    let mut back = headers.clone();
    options(headers).for_each(|name| drop(back.remove(name)));
    for name in [CONNECTION, UPGRADE, TRANSFER_ENCODING, TE, TRAILER, PROXY_AUTHENTICATE] {
        back.remove(name);
    }
    back.remove("keep-alive");
    back.remove("proxy-connection");
    back
}

/// Sends the request over a new connection, and waits for the head of the answer. The connection lasts as long as the
/// answer's body, or what it is upgraded to.
///
/// # Errors
/// [`AskError`]: the connection broke, or no answer came in time.
pub async fn ask<S, B>(
    stream: S,
    request: Request<B>,
    patience: Duration,
) -> Result<Response<Incoming>, AskError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let talk = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await
    };
    match tokio::time::timeout(patience, talk).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(AskError::Late(patience)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_one_connections_business_or_says_who_asks_goes_no_further() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("connection", "keep-alive, Upgrade, X-Hop, not a name"),
            ("x-hop", "1"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("content-length", "0"),
            ("cookie", "a=b"),
            ("host", "api"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let onward = super::onward(&headers, HeaderValue::from_static("node"));
        let mut names: Vec<&str> = onward.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["connection", "cookie", "host", "upgrade", "x-stream-protocol-version"]);
        assert_eq!(
            (&onward["host"], &onward["connection"]),
            (&"node".parse().unwrap(), &"Upgrade".parse().unwrap())
        );
    }

    #[test]
    fn an_answer_keeps_what_is_about_its_content() {
        let headers = [
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("content-encoding", "gzip"),
            ("location", "/login"),
            ("set-cookie", "a=b"),
        ];
        let headers =
            headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let answered = super::answered(&HeaderMap::from_iter(headers));
        let mut names: Vec<&str> = answered.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-encoding", "location", "set-cookie"]);
    }

    #[test]
    fn an_upgrade_is_asked_for_by_both_headers() {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("h2c"));
        assert!(!wants_upgrade(&headers));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade-insecure-requests"));
        assert!(!wants_upgrade(&headers));
        headers.insert(CONNECTION, HeaderValue::from_static("Keep-Alive, UPGRADE"));
        assert!(wants_upgrade(&headers));
    }
}
