//! Requests that are handed to the API server as they are: all that writes, connects or is not kept here.

use std::time::Duration;

use apimachinery::Status;
use bytes::Bytes;
use daemon::errors::describe;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use httpproxy::{Framing, Moving, Terms};
use hyper::body::Body as _;
use kubeapi::request::{Incoming, MAX_BODY};
use kubeapi::respond::{self, Answer, BodyError};
use tokio_util::sync::CancellationToken;

use crate::ask::{self, SERVER, Unreached};
use crate::caller::Caller;
use crate::upstream::{Io, Upstream};

/// How long the API server may take for the head of an answer: admission webhooks and starting commands count.
const ANSWER: Duration = Duration::from_secs(90);
/// Sessions and answers in which nothing moves end after this.
const IDLE: Duration = Duration::from_secs(4 * 3600);
const STUCK: Duration = Duration::from_secs(60);

/// 503: this needs the cloud. It does not say when to ask again: clients that are told so wait and ask up to ten times
/// (client-go's `rest/with_retry.go`), instead of telling their user.
pub(crate) fn cut_off(what: &str) -> Status {
    let text = format!("this node is cut off from the cloud, which {what} needs; nothing was done");
    Status::unavailable(text)
}

/// The headers of a client as they go to the cloud.
fn onward(parts: &Parts, caller: &Caller) -> HeaderMap {
    let mut headers = httpproxy::onward(&parts.headers, SERVER);
    httpproxy::forget_the_way(&mut headers);
    caller.show(&mut headers);
    if !httpproxy::wants_upgrade(&parts.headers) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        // The body is as long as the client said.
        if let Some(length) = parts.headers.get(CONTENT_LENGTH) {
            headers.insert(CONTENT_LENGTH, length.clone());
        }
    }
    headers
}

/// Hands a request to the API server, and what it answers to the client; where that is an upgrade, bytes go both ways
/// from then on.
///
/// # Errors
/// 503 if the node is cut off, 504 if no answer came, 413 for a body that is too large.
pub(crate) async fn hand_on(
    upstream: &dyn Upstream,
    caller: &Caller,
    parts: &Parts,
    body: Option<Incoming>,
    stop: &CancellationToken,
) -> Result<Answer, Status> {
    if let Some(Incoming::Connection(body)) = &body
        && body.size_hint().lower() > MAX_BODY as u64
    {
        return Err(Status::too_large(MAX_BODY));
    }
    let stream = match ask::open(upstream).await {
        Ok(stream) => stream,
        Err(Unreached::CutOff) => return Err(cut_off("this request")),
        Err(error) => return Err(Status::new(504, "Timeout", error.to_string())),
    };
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let answer = over(stream, path, onward(parts, caller), parts, body, stop).await;
    answer.map_err(|why| {
        let text = format!("the API server did not answer, and may have done what was asked: {why}");
        Status::new(504, "Timeout", text)
    })
}

fn whole(bytes: Bytes) -> UnsyncBoxBody<Bytes, std::io::Error> {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// The same over a stream that is there already; `headers` are those that go there.
pub(crate) async fn over(
    stream: Box<dyn Io>,
    path: &str,
    headers: HeaderMap,
    parts: &Parts,
    body: Option<Incoming>,
    stop: &CancellationToken,
) -> Result<Answer, String> {
    let upgrades = httpproxy::wants_upgrade(&parts.headers);
    let body = match body.filter(|_| !upgrades) {
        Some(Incoming::Connection(body)) => Limited::new(body, MAX_BODY)
            .map_err(|error: BodyError| std::io::Error::other(error))
            .boxed_unsync(),
        Some(Incoming::Program(bytes)) => whole(bytes),
        None => whole(Bytes::new()),
    };
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = path.parse().map_err(|_| format!("{path:?} is not a path"))?;
    *request.headers_mut() = headers;
    let client = hyper::upgrade::on(Request::from_parts(parts.clone(), ()));
    let terms = Terms { patience: ANSWER, idle: IDLE, framing: Framing::Unknown, stop: stop.clone() };
    let answer = httpproxy::hand_on(stream, request, client, terms, ()).await;
    let (head, body) = answer.map_err(|error| describe(&error))?.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Response::from_parts(head, respond::empty()));
    }
    let lasts = parts.uri.query().is_some_and(|query| query.contains("follow=") || query.contains("watch="));
    let patience = if lasts { IDLE } else { STUCK };
    let mut handed = Response::new(Moving::new(body, patience).boxed_unsync());
    *handed.status_mut() = head.status;
    *handed.headers_mut() = httpproxy::answered(&head.headers);
    Ok(handed)
}

#[cfg(test)]
mod tests {
    use http::header::{AUTHORIZATION, HeaderName};
    use kubeapi::user::User;

    use super::*;

    #[test]
    fn a_client_cannot_say_what_only_those_in_between_say() {
        let mut request = Request::new(());
        for (name, value) in [
            ("authorization", "Bearer a.b.c"),
            ("causeway-caller", "node"),
            ("x-remote-user", "admin"),
            ("x-remote-group", "system:masters"),
            ("impersonate-user", "admin"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("accept", "application/json"),
            ("if-none-match", "\"x\""),
            ("user-agent", "test"),
        ] {
            request.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let (parts, ()) = request.into_parts();
        let caller = Caller::of(&User::default(), &parts.headers);
        let headers = onward(&parts, &caller);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "authorization", "connection", "host", "if-none-match", "user-agent"]);
        assert_eq!(
            (&headers[CONNECTION], &headers[AUTHORIZATION]),
            (&"close".parse().unwrap(), &"Bearer a.b.c".parse().unwrap())
        );
        let headers = onward(&parts, &Caller::node("n".into()));
        assert_eq!(
            (headers.get(AUTHORIZATION), headers.get("causeway-caller")),
            (None, Some(&"node".parse().unwrap()))
        );
    }
}
