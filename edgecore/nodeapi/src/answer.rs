//! Answers: small texts, JSON, streams.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

pub(super) type Body = UnsyncBoxBody<Bytes, hyper::Error>;
pub(super) type Answer = Response<Body>;

pub(super) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn answer(status: StatusCode, kind: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer
}

/// A line of text.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Answer {
    let mut text: String = text.into();
    text.push('\n');
    answer(status, "text/plain; charset=utf-8", whole(text))
}

/// Text as it is.
pub(super) fn plain(text: impl Into<Bytes>) -> Answer {
    answer(StatusCode::OK, "text/plain; charset=utf-8", whole(text))
}

/// Samples in Prometheus' text form.
pub(super) fn metrics(text: String) -> Answer {
    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", whole(text))
}

pub(super) fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => answer(StatusCode::OK, "application/json", whole(bytes)),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("encoding the answer: {error}")),
    }
}

/// Pieces of text as they come; the body ends when the sender is dropped.
pub(super) fn stream(pieces: mpsc::Receiver<Bytes>) -> Answer {
    let frames = ReceiverStream::new(pieces).map(|piece| Ok(Frame::data(piece)));
    answer(StatusCode::OK, "text/plain; charset=utf-8", StreamBody::new(frames).boxed_unsync())
}
