//! Reading requests: query options and bodies, within limits.

use std::time::Duration;

use apimachinery::decode::Strict;
use apimachinery::listing::Asked;
use apimachinery::path::query_pairs;
use apimachinery::{Cause, FieldSelector, LabelSelector, Status};
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};

use crate::registry::Served;

/// Kubernetes' limit for request bodies.
pub const MAX_BODY: usize = 3 * 1024 * 1024;
const BODY_TIME: Duration = Duration::from_secs(30);

/// Query parameters, decoded.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Asked for Query {
    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Query {
    /// The part of a URI behind `?`.
    pub fn parse(query: Option<&str>) -> Query {
        Query(query_pairs(query.unwrap_or_default()))
    }

    /// In the place of what the client said.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(key, _)| key != name);
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// The first value of a name; empty if unset.
    pub fn get(&self, name: &str) -> &str {
        self.text(name)
    }

    /// Every value of a name that may come several times.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Nothing is to be changed. `options` is the kind of the request's options.
    ///
    /// # Errors
    /// 422 for a value of `dryRun` that is not `All`.
    pub fn dry_run(&self, options: &str) -> Result<bool, Status> {
        let given: Vec<&str> = self.all("dryRun").collect();
        if given.iter().all(|value| *value == "All") {
            return Ok(!given.is_empty());
        }
        let cause = Cause::unsupported("dryRun", &json!(given), &["All"]);
        Err(Status::invalid("meta.k8s.io", options, "", vec![cause]))
    }

    /// `resourceVersion` of a get, 0 if unset.
    ///
    /// # Errors
    /// 500, as upstream, for what is no version.
    pub fn resource_version(&self) -> Result<i64, Status> {
        apimachinery::listing::revision(self.get("resourceVersion")).map_err(|message| Status {
            code: 500,
            message,
            ..Status::default()
        })
    }

    /// `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// 400 for what does not read, and for fields of `served` that cannot be selected by.
    pub fn selectors(&self, served: &Served) -> Result<(LabelSelector, FieldSelector), Status> {
        let bad = |error: apimachinery::selector::SelectorError| Status::bad_request(error.to_string());
        let labels = LabelSelector::parse(self.get("labelSelector")).map_err(bad)?;
        let fields = FieldSelector::parse(self.get("fieldSelector")).map_err(bad)?;
        let key = served.resource.key();
        if let Some(why) = fields.fields().find_map(|field| why_not_by(served, &key, field)) {
            return Err(Status::bad_request(why));
        }
        Ok((labels, fields))
    }
}

fn why_not_by(served: &Served, key: &str, field: &str) -> Option<String> {
    let selectable = &served.version().selectable;
    let why = apimachinery::traits::why_not_by(key, field)
        .filter(|_| !selectable.iter().any(|own| own == field))?;
    match served.resource.custom {
        true => Some(format!("field label not supported: {field}")),
        false => Some(why),
    }
}

/// The body of a request.
pub enum Incoming {
    /// As it comes over a connection.
    Connection(hyper::body::Incoming),
    /// Of this program's own controllers.
    Program(Bytes),
}

impl Incoming {
    /// What is handed on to a node needs a connection.
    ///
    /// # Errors
    /// 400 for a request of this program.
    pub fn of_connection(self) -> Result<hyper::body::Incoming, Status> {
        match self {
            Incoming::Connection(body) => Ok(body),
            Incoming::Program(_) => Err(Status::bad_request("nodes are reached over a connection only")),
        }
    }
}

/// Reads a whole body, or answers 413 or 408.
///
/// # Errors
/// 413 for more than [`MAX_BODY`], 408 for one that takes too long, 400 for one that breaks off.
pub async fn body(headers: &HeaderMap, body: Incoming) -> Result<Bytes, Status> {
    let body = match body {
        Incoming::Connection(body) => body,
        Incoming::Program(bytes) if bytes.len() > MAX_BODY => return Err(Status::too_large(MAX_BODY)),
        Incoming::Program(bytes) => return Ok(bytes),
    };
    let declared =
        headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: u64| length > MAX_BODY as u64) {
        return Err(Status::too_large(MAX_BODY));
    }
    let reading = Limited::new(body, MAX_BODY).collect();
    match tokio::time::timeout(BODY_TIME, reading).await {
        Err(_) => Err(Status::new(408, "Timeout", "the request body took too long")),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Status::too_large(MAX_BODY)),
        Ok(Err(error)) => Err(Status::bad_request(format!("reading the request body: {error}"))),
    }
}

/// Media types of bodies.
const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// Without parameters; empty if unset.
pub fn content_type(headers: &HeaderMap) -> &str {
    let value =
        headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// Parses a body by its content type. Nesting is bounded by the parsers.
///
/// # Errors
/// 400 for what does not read, 415 for a type that is not known.
pub fn parse(content_type: &str, body: &[u8]) -> Result<Value, Status> {
    parse_strict(content_type, body, None).map(|read| read.value)
}

/// [`parse`], with what comes twice. `kind` is what the body has to be, if that is known.
///
/// # Errors
/// As for [`parse`].
pub fn parse_strict(content_type: &str, body: &[u8], kind: Option<&str>) -> Result<Strict, Status> {
    let bad = |error: String| {
        let of = kind.map(|kind| format!(" (must be of type {kind})")).unwrap_or_default();
        Status::bad_request(format!(
            "the object provided is unrecognized{of}: couldn't get version/kind; json parse error: {error}"
        ))
    };
    if content_type.ends_with("yaml") {
        let text = std::str::from_utf8(body).map_err(|error| bad(error.to_string()))?;
        return apimachinery::yaml::parse_strict(text).map_err(|error| bad(error.to_string()));
    }
    match content_type {
        crate::protobuf::MEDIA_TYPE => return crate::protobuf::parse(body).map(Strict::from),
        "" | "application/json" | "*/*" | "application/x-www-form-urlencoded" => {}
        other if other.ends_with("+json") => {}
        _ => return Err(Status::unsupported_media_type(ACCEPTED)),
    }
    serde_json::from_slice(body).map_err(|error| bad(error.to_string()))
}
