//! Building responses and reading what the client accepts.

use apimachinery::Status;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use serde_json::Value;

/// A body that breaks off breaks its connection off: what is cut short must not look complete.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;
/// What a client gets.
pub type Answer = Response<Body>;

/// Marks an answer whose length is not known to be long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Long;

/// The shape of the objects a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Object,
    Table,
    /// `PartialObjectMetadata(List)`
    Metadata,
}

/// The first of the accepted types that can be served, 406 if none can.
///
/// # Errors
/// 406.
pub fn negotiate(headers: &HeaderMap) -> Result<Form, Status> {
    let Some(accept) = headers.get(http::header::ACCEPT) else { return Ok(Form::Object) };
    let accept = accept.to_str().map_err(|_| Status::not_acceptable())?;
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        if !matches!(media, "application/json" | "*/*" | "application/*" | "") {
            continue;
        }
        let kind = parts.clone().find_map(|part| part.strip_prefix("as="));
        let v1 = parts.clone().find_map(|part| part.strip_prefix("v=")).is_none_or(|version| version == "v1");
        match kind {
            None => return Ok(Form::Object),
            Some("Table") if v1 => return Ok(Form::Table),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") if v1 => return Ok(Form::Metadata),
            Some(_) => {}
        }
    }
    Err(Status::not_acceptable())
}

/// An answer of this code and type.
pub fn bytes(code: u16, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let body = Full::new(body.into()).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// No body at all, as behind the head of an upgrade.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// An answer in JSON.
pub fn json(code: u16, value: &Value) -> Answer {
    bytes(code, "application/json", value.to_string())
}

/// An answer in plain text.
pub fn text(code: u16, text: &str) -> Answer {
    bytes(code, "text/plain; charset=utf-8", text.to_owned())
}

/// A Status as an answer, with `Retry-After` if it says when.
pub fn failure(status: &Status) -> Answer {
    let mut response = json(status.code, &status.to_json());
    if let Some(seconds) = status.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// 200, with JSON that comes bit by bit.
pub fn stream(body: Body) -> Answer {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
