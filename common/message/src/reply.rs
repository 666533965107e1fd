//! The content of an answer, read by its shape because the wire has no marker for errors (docs/protocol/transport.md 1.2).

use serde::{Deserialize, Serialize};

use crate::{Json, JsonError, Status};

/// What the cloud answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The string "OK".
    Done,
    /// An object (a query's answer, or the `Object` of an object response).
    Object(Json),
    /// A text: the cluster's CA certificates.
    Text(String),
    /// A refusal.
    Refused(Status),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ErrStatus {
    #[serde(rename = "ErrStatus")]
    status: Status,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// The `{"Object":..,"Err":..}` form that answers patches, inserts and leases.
#[derive(Clone, Debug)]
pub struct ObjectResponse;

impl ObjectResponse {
    /// # Errors
    /// [`JsonError`]: the status or object cannot be written as JSON.
    pub fn object(object: &Json) -> Result<Json, JsonError> {
        #[derive(Serialize)]
        struct Wire<'a> {
            #[serde(rename = "Object")]
            object: &'a Json,
            #[serde(rename = "Err")]
            err: Option<()>,
        }
        Json::encode(&Wire { object, err: None })
    }

    /// # Errors
    /// [`JsonError`]: the status or object cannot be written as JSON.
    pub fn error(status: Status) -> Result<Json, JsonError> {
        #[derive(Serialize)]
        struct Wire {
            #[serde(rename = "Object")]
            object: Option<()>,
            #[serde(rename = "Err")]
            err: ErrStatus,
        }
        Json::encode(&Wire { object: None, err: ErrStatus { status } })
    }
}

impl Reply {
    /// The error encoding of a failed query: `{"ErrStatus":{..}}`.
    ///
    /// # Errors
    /// [`JsonError`]: the status or object cannot be written as JSON.
    pub fn refusal(status: Status) -> Result<Json, JsonError> {
        Json::encode(&ErrStatus { status })
    }

    /// Reads the content of a response. `{}` and `{"Object":null,"Err":{}}` are what Go makes of an error that is not
    /// an API status; they are read as a refusal, never as an empty object.
    pub fn read(content: &Json) -> Reply {
        if content.text() == "\"OK\"" {
            return Reply::Done;
        }
        #[derive(Deserialize)]
        struct Shape {
            #[serde(rename = "ErrStatus", default)]
            err_status: Option<Status>,
            /// `Some(null)` is an object response without an object; `None` is a bare object.
            #[serde(rename = "Object", default, deserialize_with = "present")]
            object: Option<Json>,
            #[serde(rename = "Err", default)]
            err: Option<serde_json::Value>,
        }
        let unnamed = |text: &str| Reply::Refused(Status::failure(500, "InternalError", text));
        let content = content.unwrapped().unwrap_or_else(|_| content.clone());
        if content.text() == "{}" || content.is_null() {
            return unnamed("the cloud answered with an error it did not name");
        }
        if content.text().starts_with('"') && content.data().starts_with("-----BEGIN") {
            return Reply::Text(content.data());
        }
        if !content.text().starts_with('{') {
            return unnamed("the cloud answered with neither an object nor a status");
        }
        let Ok(shape) = content.parse::<Shape>() else {
            return unnamed("the cloud answered with an object of unknown shape");
        };
        if let Some(status) = shape.err_status {
            return Reply::Refused(status);
        }
        match shape.err {
            Some(error) if !error.is_null() => {
                let status = serde_json::from_value::<ErrStatus>(error).map(|err| err.status);
                match status {
                    Ok(status) => Reply::Refused(status),
                    Err(_) => unnamed("the cloud answered with an error it did not name"),
                }
            }
            _ => match shape.object {
                Some(object) if !object.is_null() => Reply::Object(object),
                Some(_) => unnamed("the cloud answered with no object"),
                None => Reply::Object(content),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Reply {
        Reply::read(&Json::from_text(text.to_owned()).unwrap())
    }

    #[test]
    fn an_error_body_is_never_taken_for_an_object() {
        for text in ["{}", "null", "{\"Object\":null,\"Err\":{}}", "{\"Object\":null,\"Err\":null}", "7"] {
            assert!(matches!(read(text), Reply::Refused(_)), "{text}");
        }
        let Reply::Refused(status) = read("{\"ErrStatus\":{\"code\":404,\"reason\":\"NotFound\"}}") else {
            panic!()
        };
        assert!(status.is_not_found());
    }

    #[test]
    fn an_object_reads_the_same_bare_wrapped_and_inside_a_string() {
        let pod = "{\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\"}}";
        let bare = read(pod);
        assert_eq!(bare, read(&format!("{{\"Object\":{pod},\"Err\":null}}")));
        assert_eq!(bare, Reply::Object(Json::from_text(pod.into()).unwrap()));
        assert_eq!(bare, Reply::read(&Json::string(pod)));
    }

    #[test]
    fn our_own_errors_round_trip() {
        let status = Status::failure(409, "Conflict", "changed");
        assert_eq!(
            Reply::read(&ObjectResponse::error(status.clone()).unwrap()),
            Reply::Refused(status.clone())
        );
        assert_eq!(Reply::read(&Reply::refusal(status.clone()).unwrap()), Reply::Refused(status));
    }
}
