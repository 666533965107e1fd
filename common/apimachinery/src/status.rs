//! `metav1.Status`: how a Kubernetes API server, and a KubeEdge cloud after it, says no.

mod wire;

use std::borrow::Cow;

use serde_json::{Value, json};

/// A failure. `code` is the HTTP status.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[serde(from = "wire::Status", into = "wire::Status")]
#[error("{code} {reason}: {message}")]
pub struct Status {
    pub code: u16,
    /// Machine-readable reason (`NotFound`, `Conflict`, ...), what client-go's `errors.IsX` look at.
    pub reason: Cow<'static, str>,
    pub message: String,
    /// Group, resource (in `kind`, as the real server does) and name of the object it is about.
    pub about: Option<Box<About>>,
    pub causes: Vec<Cause>,
    /// Seconds.
    pub retry_after: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    pub group: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
}

/// One thing that is wrong, most often a field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cause {
    /// `FieldValueRequired`, `FieldValueInvalid`, ...
    pub reason: Cow<'static, str>,
    pub message: String,
    pub field: String,
}

impl Cause {
    fn new(reason: &'static str, field: impl Into<String>, message: impl Into<String>) -> Cause {
        Cause { reason: Cow::Borrowed(reason), message: message.into(), field: field.into() }
    }
    pub fn required(field: impl Into<String>, detail: &str) -> Cause {
        let colon = if detail.is_empty() { "" } else { ": " };
        Cause::new("FieldValueRequired", field, format!("Required value{colon}{detail}"))
    }
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Cause {
        Cause::new("FieldValueInvalid", field, format!("Invalid value: {value}: {detail}"))
    }
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Cause {
        Cause::new("FieldValueDuplicate", field, format!("Duplicate value: {value}"))
    }
    pub fn unsupported(field: impl Into<String>, value: &Value, allowed: &[&str]) -> Cause {
        let allowed: Vec<String> = allowed.iter().map(|name| format!("{name:?}")).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", allowed.join(", "));
        Cause::new("FieldValueNotSupported", field, message)
    }
    pub fn not_found(field: impl Into<String>, value: &str) -> Cause {
        Cause::new("FieldValueNotFound", field, format!("Not found: {value:?}"))
    }
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Cause {
        Cause::new("FieldValueForbidden", field, format!("Forbidden: {detail}"))
    }
    pub fn type_invalid(field: impl Into<String>, value: &Value, detail: &str) -> Cause {
        Cause::new("FieldValueTypeInvalid", field, format!("Invalid value: {value}: {detail}"))
    }
    pub fn too_many(field: impl Into<String>, found: usize, limit: usize) -> Cause {
        let message = format!("Too many: {found}: must have at most {limit} items");
        Cause::new("FieldValueTooMany", field, message)
    }
    pub fn too_long(field: impl Into<String>, limit: usize) -> Cause {
        Cause::new("FieldValueTooLong", field, format!("Too long: may not be more than {limit} bytes"))
    }
}

/// `pods "x"` or `deployments.apps "x"`.
fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl Status {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Status {
        Status { code, reason: Cow::Borrowed(reason), message: message.into(), ..Status::default() }
    }
    fn about(mut self, group: &str, kind: &str, name: &str) -> Status {
        let about = About {
            group: group.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            uid: String::new(),
        };
        self.about = Some(Box::new(about));
        self
    }
    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(400, "BadRequest", message)
    }
    pub fn unauthorized() -> Status {
        Status::new(401, "Unauthorized", "Unauthorized")
    }
    pub fn refused(group: &str, resource: &str, name: &str, why: &str) -> Status {
        let object = if name.is_empty() { String::new() } else { format!(" {name:?}") };
        let message = format!("{}{object} is forbidden: {why}", qualified(group, resource));
        Status::new(403, "Forbidden", message).about(group, resource, name)
    }
    pub fn not_found(group: &str, resource: &str, name: &str) -> Status {
        let message = format!("{} {name:?} not found", qualified(group, resource));
        Status::new(404, "NotFound", message).about(group, resource, name)
    }
    /// The URL names nothing that is served.
    pub fn no_such_path() -> Status {
        let mut status = Status::new(404, "NotFound", "the server could not find the requested resource");
        status.about = Some(Box::default());
        status.causes.push(Cause::new("UnexpectedServerResponse", "", "404 page not found"));
        status
    }
    pub fn method_not_allowed() -> Status {
        let message = "the server does not allow this method on the requested resource";
        Status::new(405, "MethodNotAllowed", message)
    }
    pub fn not_acceptable() -> Status {
        let message = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
                       application/vnd.kubernetes.protobuf, application/json;stream=watch, \
                       application/vnd.kubernetes.protobuf;stream=watch";
        Status::new(406, "NotAcceptable", message)
    }
    /// The types asked for are known, and objects of this kind do not have the form that is asked for.
    pub fn no_such_form() -> Status {
        let message = "only the following media types are accepted: application/json, application/yaml, \
                       application/vnd.kubernetes.protobuf";
        Status::new(406, "NotAcceptable", message)
    }
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Status {
        let message = format!("{} {name:?} already exists", qualified(group, resource));
        Status::new(409, "AlreadyExists", message).about(group, resource, name)
    }
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Status {
        let message =
            format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(group, resource));
        Status::new(409, "Conflict", message).about(group, resource, name)
    }
    /// The write was based on an old resourceVersion.
    pub fn stale(group: &str, resource: &str, name: &str) -> Status {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Status::conflict(group, resource, name, why)
    }
    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(410, "Expired", message)
    }
    /// A read wants what is newer than `current`; the client may ask again in a second.
    pub fn too_large_version(wanted: i64, current: i64) -> Status {
        let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
        let mut status = Status::new(504, "Timeout", message);
        status.causes.push(Cause::new("ResourceVersionTooLarge", "", "Too large resource version"));
        status.retry_after = Some(1);
        status
    }
    pub fn too_large(limit: usize) -> Status {
        let message = format!("Request entity too large: limit is {limit}");
        Status::new(413, "RequestEntityTooLarge", message)
    }
    pub fn unsupported_media_type(accepted: &str) -> Status {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        Status::new(415, "UnsupportedMediaType", message)
    }
    /// `causes` must not be empty.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Status {
        let lines: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let lines = match lines.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} {name:?} is invalid: {lines}", qualified(group, kind));
        let mut status = Status::new(422, "Invalid", message).about(group, kind, name);
        status.causes = causes;
        status
    }
    pub fn internal(message: impl Into<String>) -> Status {
        let message = message.into();
        Status::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }
    pub fn unavailable(message: impl Into<String>) -> Status {
        Status::new(503, "ServiceUnavailable", message)
    }

    pub fn is_not_found(&self) -> bool {
        self.code == 404
    }
    pub fn is_conflict(&self) -> bool {
        self.code == 409
    }
    /// True when the same request may succeed later: server trouble, throttling, timeouts.
    pub fn is_retryable(&self) -> bool {
        is_retryable(self.code)
    }

    /// The object a client of the API is answered with.
    pub fn to_json(&self) -> Value {
        let mut object = json!({ "kind": "Status", "apiVersion": "v1" });
        // A status is texts and numbers, which can be encoded.
        if let (Some(object), Ok(Value::Object(fields))) =
            (object.as_object_mut(), serde_json::to_value(self))
        {
            object.extend(fields);
        }
        object
    }
}

/// [`Status::is_retryable`] of a bare HTTP status; 0 is none at all.
pub fn is_retryable(code: u16) -> bool {
    matches!(code, 0 | 408 | 429 | 500..=599)
}

/// The answer to a deletion that is complete.
pub fn deleted(group: &str, resource: &str, name: &str, uid: &str) -> Value {
    let mut details = json!({ "name": name, "kind": resource, "uid": uid });
    if !group.is_empty() {
        details["group"] = json!(group);
    }
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
}
