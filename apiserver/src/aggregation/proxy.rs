//! A request handed on to the server of its group and version (`kube-aggregator/pkg/apiserver/handler_proxy.go`).

use std::time::Duration;

use apimachinery::Status;
use http::header::{ACCEPT_ENCODING, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use httpproxy::{Framing, Terms};
use kubeapi::request::Incoming;
use kubeapi::respond::{self, Answer, BodyError};
use kubeapi::user::User;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::apiservices::Remote;
use crate::context::Context;
use crate::reach::{self, ReachError};

/// How long finding the server, connecting and the TLS handshake may take together.
const CONNECT: Duration = Duration::from_secs(15);
/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(60);
/// A session or a watch in which nothing has moved for so long ends.
const IDLE: Duration = Duration::from_secs(4 * 3600);
/// What headers that say who asks begin with, and those that ask to be taken for somebody else.
const SAID: [&str; 2] = ["x-remote-", "impersonate-"];

/// Why a server does not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnreachedError {
    #[error(transparent)]
    Reach(#[from] ReachError),
    #[error("no connection within {0:?}")]
    Late(Duration),
}

/// A connection to a server, and what it is called.
pub(super) async fn connected(
    context: &Context,
    remote: &Remote,
) -> Result<(TlsStream<TcpStream>, String), UnreachedError> {
    let connect = async {
        let tls = remote.tls.clone().map_err(ReachError::Tls)?;
        let place = reach::place(&context.storage, &remote.client()).await?;
        Ok((reach::connect(tls, &place).await?, place.authority()))
    };
    tokio::time::timeout(CONNECT, connect).await.unwrap_or(Err(UnreachedError::Late(CONNECT)))
}

/// Who asks, as servers behind this one read it.
pub(super) fn say_who(headers: &mut HeaderMap, user: &User) {
    let said: Vec<HeaderName> = headers
        .keys()
        .filter(|name| SAID.iter().any(|prefix| name.as_str().starts_with(prefix)))
        .cloned()
        .collect();
    said.iter().for_each(|name| drop(headers.remove(name)));
    let mut say = |name: String, value: &str| {
        // What is no text of a header is not said, which gives fewer rights.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    say("x-remote-user".to_owned(), &user.name);
    if !user.uid.is_empty() {
        say("x-remote-uid".to_owned(), &user.uid);
    }
    user.groups.iter().for_each(|group| say("x-remote-group".to_owned(), group));
    for (key, values) in &user.extra {
        values.iter().for_each(|value| say(format!("x-remote-extra-{}", escaped(key)), value));
    }
}

/// A key as part of a header's name: what may not be in one is percent-encoded.
fn escaped(key: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
    key.to_lowercase()
        .bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Answers a request by the server of its group and version.
pub(crate) async fn hand_on(
    context: &Context,
    (group, version): (&str, &str),
    user: &User,
    request: Request<Incoming>,
) -> Result<Answer, Status> {
    let (remote, is_available) = context.services.find(group, version).ok_or_else(Status::no_such_path)?;
    if !is_available {
        let why = format!("service unavailable: see the condition Available of APIService {}", remote.name);
        return Err(Status::unavailable(why));
    }
    let (parts, body) = request.into_parts();
    let body = body.of_connection()?;
    let failed = |error: &dyn std::error::Error| {
        let why = daemon::errors::describe(error);
        Status::unavailable(format!("error trying to reach service of APIService {}: {why}", remote.name))
    };
    let (stream, authority) = connected(context, &remote).await.map_err(|error| failed(&error))?;
    let host = HeaderValue::from_str(&authority).unwrap_or(HeaderValue::from_static("service"));
    let mut onward = Request::new(body);
    *onward.method_mut() = parts.method.clone();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    *onward.uri_mut() =
        Uri::try_from(path).map_err(|_| Status::bad_request(format!("{path:?} is not a path")))?;
    *onward.headers_mut() = httpproxy::onward(&parts.headers, host);
    // Long answers are packed on their way from here.
    onward.headers_mut().remove(ACCEPT_ENCODING);
    say_who(onward.headers_mut(), user);
    let terms = Terms { patience: ANSWER, idle: IDLE, framing: Framing::Unknown, stop: context.stop.clone() };
    let client = hyper::upgrade::on(Request::from_parts(parts, ()));
    let answer =
        httpproxy::hand_on(stream, onward, client, terms, ()).await.map_err(|error| failed(&error))?;
    let (parts, body) = answer.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Response::from_parts(parts, respond::empty()));
    }
    let mut handed = Response::new(body.map_err(BodyError::from).boxed_unsync());
    *handed.status_mut() = parts.status;
    *handed.headers_mut() = httpproxy::answered(&parts.headers);
    Ok(handed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_said_by_this_server_alone() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("x-remote-user", "root"), ("x-remote-extra-a", "b"), ("impersonate-user", "c"), ("accept", "d")]
        {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let user = User {
            name: "u".to_owned(),
            groups: vec!["g".to_owned(), "h".to_owned()],
            extra: [("A/b".to_owned(), vec!["x".to_owned()])].into_iter().collect(),
            ..User::default()
        };
        say_who(&mut headers, &user);
        let mut said: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        said.sort();
        assert_eq!(
            said,
            [
                "accept: d",
                "x-remote-extra-a%2fb: x",
                "x-remote-group: g",
                "x-remote-group: h",
                "x-remote-user: u"
            ]
        );
    }
}
