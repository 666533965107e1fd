//! `metav1.Status`: what a Kubernetes API server says when it does not return the object.

use serde_json::{Map, Value, json};

/// A failure as clients see it. `Display` is the message.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    pub code: u16,
    /// Machine-readable reason (`NotFound`, `Conflict`, ...), what client-go's `errors.IsX` look at.
    pub reason: &'static str,
    pub message: String,
    /// Group, resource (in `kind`, as the real server does) and name of the object it is about.
    pub about: Option<Box<About>>,
    pub causes: Vec<Cause>,
    pub retry_after: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    pub group: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// `FieldValueRequired`, `FieldValueInvalid`, ...
    pub reason: &'static str,
    pub message: String,
    pub field: String,
}

impl Cause {
    pub fn required(field: impl Into<String>, detail: &str) -> Cause {
        let message =
            if detail.is_empty() { "Required value".to_owned() } else { format!("Required value: {detail}") };
        Cause { reason: "FieldValueRequired", message, field: field.into() }
    }
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Cause {
        Cause {
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {value}: {detail}"),
            field: field.into(),
        }
    }
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Cause {
        Cause {
            reason: "FieldValueDuplicate",
            message: format!("Duplicate value: {value}"),
            field: field.into(),
        }
    }
    pub fn unsupported(field: impl Into<String>, value: &Value, allowed: &[&str]) -> Cause {
        let allowed: Vec<String> = allowed.iter().map(|name| format!("{name:?}")).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", allowed.join(", "));
        Cause { reason: "FieldValueNotSupported", message, field: field.into() }
    }
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Cause {
        Cause { reason: "FieldValueForbidden", message: format!("Forbidden: {detail}"), field: field.into() }
    }
    pub fn type_invalid(field: impl Into<String>, value: &Value, detail: &str) -> Cause {
        Cause {
            reason: "FieldValueTypeInvalid",
            message: format!("Invalid value: {value}: {detail}"),
            field: field.into(),
        }
    }
    pub fn too_long(field: impl Into<String>, limit: usize) -> Cause {
        let message = format!("Too long: may not be more than {limit} bytes");
        Cause { reason: "FieldValueTooLong", message, field: field.into() }
    }
}

/// `pods "x"` or `deployments.apps "x"`.
fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl Status {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Status {
        Status { code, reason, message: message.into(), about: None, causes: vec![], retry_after: None }
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
    pub fn forbidden(user: &str, verb: &str, group: &str, resource: &str, name: &str) -> Status {
        let what = qualified(group, resource);
        let message = format!(
            "{what} {name:?} is forbidden: User {user:?} cannot {verb} resource {resource:?} in API group {group:?}"
        );
        Status::new(403, "Forbidden", message).about(group, resource, name)
    }
    pub fn refused(group: &str, resource: &str, name: &str, why: &str) -> Status {
        let message = format!("{} {name:?} is forbidden: {why}", qualified(group, resource));
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
        status.causes.push(Cause {
            reason: "UnexpectedServerResponse",
            message: "404 page not found".to_owned(),
            field: String::new(),
        });
        status
    }
    pub fn method_not_allowed(verb: &str) -> Status {
        let message = format!("the server does not allow this method on the requested resource ({verb})");
        Status::new(405, "MethodNotAllowed", message)
    }
    pub fn not_acceptable() -> Status {
        let message = "only the following media types are accepted: application/json, application/yaml";
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
    pub fn too_large(limit: usize) -> Status {
        let message = format!("Request entity too large: limit is {limit}");
        Status::new(413, "RequestEntityTooLarge", message)
    }
    pub fn unsupported_media_type(given: &str, accepted: &str) -> Status {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted} (got {given:?})"
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

    pub fn to_json(&self) -> Value {
        let mut out = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        let details = self.details();
        if !details.is_empty() {
            out["details"] = Value::Object(details);
        }
        out
    }

    fn details(&self) -> Map<String, Value> {
        let mut details = Map::new();
        let mut put = |key: &str, text: &str| {
            if !text.is_empty() {
                details.insert(key.to_owned(), json!(text));
            }
        };
        if let Some(about) = &self.about {
            put("name", &about.name);
            put("group", &about.group);
            put("kind", &about.kind);
            put("uid", &about.uid);
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(|cause| {
                let mut out = json!({ "reason": cause.reason, "message": cause.message });
                if !cause.field.is_empty() {
                    out["field"] = json!(cause.field);
                }
                out
            });
            details.insert("causes".to_owned(), causes.collect());
        }
        if let Some(seconds) = self.retry_after {
            details.insert("retryAfterSeconds".to_owned(), json!(seconds));
        }
        details
    }
}

/// The answer to a deletion that is complete.
pub fn deleted(group: &str, resource: &str, name: &str, uid: &str) -> Value {
    let mut details = json!({ "name": name, "kind": resource, "uid": uid });
    if !group.is_empty() {
        details["group"] = json!(group);
    }
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
}
