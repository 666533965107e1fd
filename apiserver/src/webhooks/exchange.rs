//! A question over HTTPS, and its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kubeapi::request::MAX_BODY;
use rustls::ClientConfig;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use crate::reach::{self, Place, ReachError};

/// What is told of an answer that is none.
const REFUSAL: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error(transparent)]
    Reach(#[from] ReachError),
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

/// Posts a question and reads the answer; `timeout` is what the webhook is told. The caller sets the deadline.
///
/// # Errors
/// [`AskError`]: where it failed.
pub(crate) async fn exchange(
    tls: Arc<ClientConfig>,
    place: &Place,
    (question, timeout): (String, Duration),
) -> Result<Value, AskError> {
    let stream = reach::connect(tls, place).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(AskError::Http)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let seconds = timeout.as_secs();
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
