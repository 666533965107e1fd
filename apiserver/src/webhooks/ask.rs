//! One question to one webhook.

use std::time::Duration;

use apimachinery::Status;
use apimachinery::webhooks::{Answer, Phase, Question, Verdict, denied_by};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kubeapi::request::MAX_BODY;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::forms::{Form, Forms};
use super::reach::{self, Place};
use super::{Change, Objects};
use crate::registered::Hook;

/// What is told of an answer that is none.
const REFUSAL: usize = 1024;

#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("{0}")]
    Tls(String),
    #[error("looking for its address")]
    Place(#[source] Status),
    #[error("{0:?} is not the name of a server")]
    Name(String),
    #[error("connecting to {to}")]
    Connect { to: String, source: std::io::Error },
    #[error("TLS with {name:?}")]
    Handshake { name: String, source: std::io::Error },
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("making the request")]
    Request(#[source] http::Error),
    #[error("sending the question")]
    Http(#[source] hyper::Error),
    #[error("the webhook answered {0}: {1}")]
    Refused(StatusCode, String),
    #[error("the answer is longer than {MAX_BODY} bytes")]
    TooLong,
    #[error("reading the answer")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer is not JSON")]
    Json(#[source] serde_json::Error),
}

/// The patch of a webhook that allows it with one. A webhook that cannot be asked is passed over if it is to fail open.
///
/// # Errors
/// The webhook's refusal; 500 if it failed.
pub(super) async fn ask(
    change: &Change<'_>,
    hook: &Hook,
    (forms, form): (&Forms, &Form),
    objects: Objects<'_>,
    phase: Phase,
) -> Result<Option<Value>, Status> {
    let uid = uuid::Uuid::new_v4().to_string();
    let out = |object: Option<&Value>| object.map(|object| form.out(object)).unwrap_or_default();
    let question = Question {
        uid: &uid,
        about: form.named(),
        requested: forms.requested.named(),
        subresource: &change.target.subresource,
        name: &change.target.name,
        namespace: namespace(change),
        operation: change.operation,
        user: &change.caller.user_info(),
        object: &out(objects.new),
        old_object: &out(objects.old),
        dry_run: change.caller.dry_run,
        options: &change.caller.options,
    };
    let name = &hook.webhook.name;
    let answer = match post(change, hook, question.to_json().to_string()).await {
        Err(error) => Err(format!("failed to call webhook: {}", daemon::errors::describe(&error))),
        Ok(review) => Answer::read(&review, &uid, phase)
            .map_err(|error| format!("received invalid webhook response: {error}")),
    };
    match answer {
        Ok(answer) => {
            answer.warnings.into_iter().for_each(|text| change.caller.warnings.add(text));
            match answer.verdict {
                Verdict::Allowed => Ok(None),
                Verdict::Patched(patch) => Ok(Some(patch)),
                Verdict::Denied(status) => Err(denied_by(name, status)),
            }
        }
        Err(why) if hook.webhook.fails_open => {
            tracing::warn!(name, error = why, "a webhook failed and is passed over");
            Ok(None)
        }
        Err(why) => {
            tracing::warn!(name, error = why, "a webhook failed, so what it would be asked about is refused");
            Err(Status::internal(format!("failed calling webhook {name:?}: {why}")))
        }
    }
}

/// That of the request; a Namespace counts as in itself.
pub(super) fn namespace<'a>(change: &Change<'a>) -> &'a str {
    match change.target.served.is_core("namespaces") {
        true => &change.target.name,
        false => &change.target.namespace,
    }
}

async fn post(change: &Change<'_>, hook: &Hook, question: String) -> Result<Value, AskError> {
    let left = change.caller.deadline.saturating_duration_since(Instant::now());
    let time = hook.webhook.timeout.min(left);
    let asked = async {
        // It is never closed.
        let _turn = hook.turns.acquire().await;
        let place = reach::place(&change.context.storage, &hook.webhook.client).await;
        let place = place.map_err(AskError::Place)?;
        exchange(hook, &place, question).await
    };
    tokio::time::timeout(time, asked).await.unwrap_or(Err(AskError::Timeout(time)))
}

async fn exchange(hook: &Hook, place: &Place, question: String) -> Result<Value, AskError> {
    let tls = hook.tls.clone().map_err(AskError::Tls)?;
    let name = ServerName::try_from(place.name.clone()).map_err(|_| AskError::Name(place.name.clone()))?;
    let to = || format!("{}:{}", place.host, place.port);
    let stream = TcpStream::connect((place.host.as_str(), place.port)).await;
    let stream = stream.map_err(|source| AskError::Connect { to: to(), source })?;
    let stream = TlsConnector::from(tls).connect(name, stream).await;
    let stream = stream.map_err(|source| AskError::Handshake { name: place.name.clone(), source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(AskError::Http)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let seconds = hook.webhook.timeout.as_secs();
    let request = Request::post(format!("{}?timeout={seconds}s", place.path))
        .header(HOST, place.authority())
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, "kube-apiserver-admission")
        .body(Full::new(Bytes::from(question)))
        .map_err(AskError::Request)?;
    let answer = sender.send_request(request).await.map_err(AskError::Http)?;
    let (parts, body) = answer.into_parts();
    if !parts.status.is_success() {
        let said = Limited::new(body, REFUSAL).collect().await;
        let said = said.map(|said| String::from_utf8_lossy(&said.to_bytes()).trim().to_owned());
        return Err(AskError::Refused(parts.status, said.unwrap_or_default()));
    }
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() { AskError::TooLong } else { AskError::Body(error) }
    })?;
    serde_json::from_slice(&body.to_bytes()).map_err(AskError::Json)
}
