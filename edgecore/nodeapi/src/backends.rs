//! Requests for HTTP servers of pods and of the node: for clients of API servers that cannot connect to ports of an edge, by way
//! of `nodes/NAME/proxy`.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use httpproxy::{AskError, Framing, Terms};
use hyper::body::Incoming;

use super::ServerState;
use super::answer::{self, Answer};
use super::router::Backend;
use super::target::HttpRefusal;
use podmodel::errors::chain;

/// How long the server may take for the head of its answer.
const ANSWER: Duration = Duration::from_secs(60);
/// It is on this machine.
const HANDSHAKE: Duration = Duration::from_secs(10);

impl ServerState {
    /// Hands the request on as it is but for what is this connection's business. Certificates of the server are not verified:
    /// its address is the proof, as for kube-apiserver.
    pub(crate) async fn http(
        &self,
        backend: Backend,
        mut request: Request<Incoming>,
    ) -> Result<Answer, HttpRefusal> {
        let place = Arc::new(self.session()?);
        let reached = self.reached(&backend.of, backend.port)?;
        let stream = reached.connect().await?;
        let terms = Terms {
            patience: ANSWER,
            idle: self.streaming_idle,
            framing: Framing::Unknown,
            stop: self.stop.clone(),
        };
        let client = hyper::upgrade::on(&mut request);
        let onward = onward(request, &backend, &reached.host())?;
        let answered: Result<Response<Incoming>, AskError> = match backend.is_tls {
            false => httpproxy::hand_on(stream, onward, client, terms, place.clone()).await,
            true => {
                let stream = httpproxy::unverified_tls(stream, HANDSHAKE).await;
                let stream = stream.map_err(|error| reached.failed("connecting", &chain(&error)))?;
                httpproxy::hand_on(stream, onward, client, terms, place.clone()).await
            }
        };
        let answered = answered.map_err(|error| reached.failed("sending a request", &chain(&error)))?;
        let (parts, body) = answered.into_parts();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let mut answer = Response::new(answer::whole(bytes::Bytes::new()));
            *answer.status_mut() = parts.status;
            *answer.headers_mut() = parts.headers;
            return Ok(answer);
        }
        // The place is taken until all of it is read.
        let body = body.map_frame(move |frame| {
            let _place = &place;
            frame
        });
        let mut answer = Response::new(body.boxed_unsync());
        *answer.status_mut() = parts.status;
        *answer.headers_mut() = httpproxy::answered(&parts.headers);
        Ok(answer)
    }
}

fn onward(
    request: Request<Incoming>,
    backend: &Backend,
    host: &str,
) -> Result<Request<Incoming>, HttpRefusal> {
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let target = format!("{}{query}", backend.path);
    let unreadable =
        |what: &str| HttpRefusal::new(StatusCode::BAD_REQUEST, format!("{what:?} is not usable"));
    let uri = target.parse().map_err(|_| unreadable(&target))?;
    let host = HeaderValue::from_str(host).map_err(|_| unreadable(host))?;
    let (parts, body) = request.into_parts();
    let mut onward = Request::new(body);
    *onward.method_mut() = parts.method;
    *onward.uri_mut() = uri;
    *onward.headers_mut() = httpproxy::onward(&parts.headers, host);
    Ok(onward)
}
