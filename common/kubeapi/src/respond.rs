//! Building responses and reading what the client accepts.

use apimachinery::Status;
use apimachinery::listing::Asked as _;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Body as _;
use serde_json::Value;

use crate::protobuf::MEDIA_TYPE;
use crate::request::Query;

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
    /// Of this version of `meta.k8s.io`.
    Table(&'static str),
    /// `PartialObjectMetadata(List)` of this version of `meta.k8s.io`.
    Metadata(&'static str),
}

/// What a client wants objects as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub form: Form,
    /// In Protobuf; else in JSON.
    pub is_protobuf: bool,
}

/// What an answer holds, which decides between `PartialObjectMetadata` and `PartialObjectMetadataList`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    One,
    List,
    /// A watch holds one after the other.
    Events,
}

const JSON: [&str; 4] = ["application/json", "*/*", "application/*", ""];
const YAML: &str = "application/yaml";

/// The first of the accepted types that can be served, 406 if none can. `has_message`: the objects have a form in Protobuf.
///
/// # Errors
/// 406.
pub fn negotiate(headers: &HeaderMap, holds: Holds, has_message: bool) -> Result<Wanted, Status> {
    let plain = Wanted { form: Form::Object, is_protobuf: false };
    let Some(accept) = headers.get(http::header::ACCEPT) else { return Ok(plain) };
    let accept = accept.to_str().map_err(|_| Status::not_acceptable())?;
    let wanted = accept.split(',').find_map(|range| {
        let is_protobuf = media(range) == MEDIA_TYPE;
        let form = form(range, holds)?;
        let can_be = match form {
            Form::Object => has_message,
            Form::Metadata(_) => true,
            Form::Table(_) => false,
        };
        (can_be || !is_protobuf).then_some(Wanted { form, is_protobuf })
    });
    let is_known = |range: &str| JSON.contains(&media(range)) || [YAML, MEDIA_TYPE].contains(&media(range));
    wanted.ok_or_else(|| match has_message && !accept.split(',').any(is_known) {
        true => Status::not_acceptable(),
        false => Status::no_such_form(),
    })
}

/// A range of an Accept header without its parameters.
fn media(range: &str) -> &str {
    range.split(';').next().unwrap_or_default().trim()
}

/// What one range of an Accept header asks for, if it can be served.
fn form(range: &str, holds: Holds) -> Option<Form> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    if !JSON.contains(&media) && ![YAML, MEDIA_TYPE].contains(&media) {
        return None;
    }
    let part = |name: &str| parts.clone().find_map(|part| part.strip_prefix(name));
    let version = match part("v=") {
        None | Some("v1") => "meta.k8s.io/v1",
        Some("v1beta1") => "meta.k8s.io/v1beta1",
        Some(_) => "",
    };
    match (part("as="), holds) {
        (None, _) => Some(Form::Object),
        _ if version.is_empty() => None,
        (Some("Table"), _) => Some(Form::Table(version)),
        (Some("PartialObjectMetadata"), Holds::One | Holds::Events)
        | (Some("PartialObjectMetadataList"), Holds::List | Holds::Events) => Some(Form::Metadata(version)),
        (Some(_), _) => None,
    }
}

/// How the text of an answer is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Dense,
    /// For people: those who ask for it, and programs that show answers to them.
    Pretty,
    Yaml,
    Protobuf,
}

impl Layout {
    /// As kube-apiserver decides (`endpoints/handlers/negotiation/negotiate.go`).
    pub(crate) fn of(headers: &HeaderMap, query: &Query) -> Layout {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let accept = text(http::header::ACCEPT);
        // Objects in another form are Protobuf already where that was asked for; errors never have one.
        let is_plain = |range: &&str| media(range) != MEDIA_TYPE || !range.contains("as=");
        let mut medias = accept.split(',').filter(is_plain).map(media);
        match medias.find(|media| JSON.contains(media) || [YAML, MEDIA_TYPE].contains(media)) {
            Some(YAML) => return Layout::Yaml,
            Some(MEDIA_TYPE) => return Layout::Protobuf,
            _ => {}
        }
        let for_people = ["curl", "Wget", "Mozilla/5.0"];
        let is_pretty = match query.value("pretty") {
            Some(_) => query.flag("pretty"),
            None => for_people.iter().any(|name| text(http::header::USER_AGENT).starts_with(name)),
        };
        if is_pretty { Layout::Pretty } else { Layout::Dense }
    }
}

/// Most of an answer that is laid out, in bytes: it is parsed for that, which takes many times as much memory.
const LAID_OUT: usize = 4 * 1024 * 1024;

/// The same answer laid out, if it is a whole one in JSON. Long ones are not indented.
pub(crate) async fn lay_out(answer: Answer, layout: Layout) -> Answer {
    let is_json = answer.headers().get(CONTENT_TYPE).is_some_and(|media| media == "application/json");
    let is_whole = answer.extensions().get::<Long>().is_some() || answer.body().size_hint().exact().is_some();
    if layout == Layout::Dense || !is_json || !is_whole {
        return answer;
    }
    if layout == Layout::Protobuf {
        return encoded(answer).await;
    }
    let fits = answer.body().size_hint().exact().is_some_and(|bytes| bytes <= LAID_OUT as u64);
    if layout == Layout::Pretty && !fits {
        return answer;
    }
    let (mut parts, mut body) = answer.into_parts();
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame.map(|frame| frame.into_data().unwrap_or_default()) {
            Ok(data) => text.extend_from_slice(&data),
            Err(error) => return failure(&Status::internal(format!("making the answer: {error}"))),
        }
        if text.len() > LAID_OUT {
            let why = format!(
                "more than {LAID_OUT} bytes are not told in YAML: ask for JSON, or for less with limit"
            );
            return failure(&Status::new(413, "RequestEntityTooLarge", why));
        }
    }
    let told = serde_json::from_slice::<Value>(&text).ok().and_then(|value| match layout {
        Layout::Yaml => apimachinery::yaml::text(&value).ok(),
        _ => serde_json::to_string_pretty(&value).ok().map(|text| text + "\n"),
    });
    let Some(told) = told else { return failure(&Status::internal("the answer cannot be laid out")) };
    // Of the text before.
    parts.headers.remove(CONTENT_LENGTH);
    if layout == Layout::Yaml {
        parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(YAML));
    }
    Response::from_parts(parts, Full::new(Bytes::from(told)).map_err(|never| match never {}).boxed_unsync())
}

/// The same answer in Protobuf, if it is a whole one of at most [`LAID_OUT`] bytes and of a kind that has it.
async fn encoded(answer: Answer) -> Answer {
    if answer.body().size_hint().exact().is_none_or(|bytes| bytes > LAID_OUT as u64) {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    let text = match body.collect().await {
        Ok(whole) => whole.to_bytes(),
        Err(error) => return failure(&Status::internal(format!("making the answer: {error}"))),
    };
    let told = match std::str::from_utf8(&text).map(crate::protobuf::answer) {
        Ok(Ok(Some(told))) => {
            parts.headers.remove(CONTENT_LENGTH);
            parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
            Bytes::from(told)
        }
        // Done is done: who asked learns it, if in JSON.
        Ok(Err(error)) => {
            tracing::warn!(%error, "an answer was not told in Protobuf but in JSON");
            text
        }
        Ok(Ok(None)) | Err(_) => text,
    };
    Response::from_parts(parts, Full::new(told).map_err(|never| match never {}).boxed_unsync())
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

/// What every answer says: that it may not be kept, and an id, by which the audit log has it if there is one.
pub(crate) fn mark(headers: &mut HeaderMap) {
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    }
    if !headers.contains_key("audit-id")
        && let Ok(id) = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string())
    {
        headers.insert("audit-id", id);
    }
}

/// 200, with what comes bit by bit.
pub fn stream(body: Body, content_type: &'static str) -> Answer {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn laid_out(bytes: usize, layout: Layout) -> (u16, usize) {
        let text = serde_json::json!({ "k": "x".repeat(bytes) }).to_string();
        let answer = lay_out(super::bytes(200, "application/json", text), layout).await;
        let code = answer.status().as_u16();
        (code, answer.into_body().collect().await.unwrap().to_bytes().len())
    }

    #[tokio::test]
    async fn what_is_long_is_not_parsed_to_be_laid_out() {
        assert_eq!(laid_out(3, Layout::Pretty).await, (200, "{\n  \"k\": \"xxx\"\n}\n".len()));
        assert_eq!(laid_out(3, Layout::Yaml).await.0, 200);
        assert_eq!(laid_out(LAID_OUT, Layout::Pretty).await, (200, LAID_OUT + "{\"k\":\"\"}".len()));
        assert_eq!(laid_out(LAID_OUT, Layout::Yaml).await.0, 413);
    }

    #[tokio::test]
    async fn the_length_of_an_answer_from_elsewhere_is_not_that_of_its_layout() {
        for layout in [Layout::Pretty, Layout::Yaml] {
            let mut answer = super::bytes(200, "application/json", "{\"k\":\"v\"}");
            answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(9));
            assert!(lay_out(answer, layout).await.headers().get(CONTENT_LENGTH).is_none(), "{layout:?}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_told_in_protobuf_stays_json() {
        let media = async |text: String| {
            let answer = lay_out(super::bytes(200, "application/json", text), Layout::Protobuf).await;
            answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned()
        };
        let map = |name: Value| {
            serde_json::json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name } })
                .to_string()
        };
        assert_eq!(media(map("a".into())).await, MEDIA_TYPE);
        assert_eq!(media(map(5.into())).await, "application/json");
        assert_eq!(media(map("x".repeat(LAID_OUT).into())).await, "application/json");
        assert_eq!(media("{\"kind\":\"Gadget\",\"apiVersion\":\"v1\"}".to_owned()).await, "application/json");
    }
}
