//! What is answered instead of what was asked.

use apimachinery::Status;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A status, in words for who asked.
#[derive(Debug)]
pub(crate) struct Refusal(pub StatusCode, pub String);

impl Refusal {
    /// The kubelet could not be asked.
    pub(crate) fn gateway(why: impl Into<String>) -> Refusal {
        Refusal(StatusCode::BAD_GATEWAY, why.into())
    }

    /// As an object of the kind `Status`.
    pub(crate) fn answer(self) -> Response<Body> {
        let Refusal(code, message) = self;
        let reason = code.canonical_reason().unwrap_or("Unknown").replace(' ', "");
        let status = Status { code: code.as_u16(), reason: reason.into(), message, ..Status::default() };
        let mut answer = Response::new(whole(status.to_json().to_string().into()));
        *answer.status_mut() = code;
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer
    }
}

pub(crate) fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
