//! Kubernetes' Protobuf: bodies and answers of every kind that Kubernetes itself has, after the table of
//! [`apimachinery::messages`].
//!
//! ```text
//! body:    k8s\0 + runtime.Unknown -> envelope -> decode -> the JSON that Go would write of the same object
//! answer:  JSON text -> encode -> envelope -> k8s\0 + runtime.Unknown
//! list:    each stored text -> encode -> pieces in one envelope     watch: events with a length in front of each
//! ```
//! JSON is read as it comes and written in the order of the fields' numbers, without a tree of values between.

mod decode;
mod encode;
mod envelope;
mod scalars;
mod watch;
mod wire;

#[cfg(test)]
mod tests;

use apimachinery::Status;
use apimachinery::messages::Message;
use serde_json::Value;

pub(crate) use envelope::{answer, end, head};
pub(crate) use watch::event;

use crate::registry::Served;

/// Of bodies and answers.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// Of watches.
pub(crate) const STREAM_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// Reads a body as the JSON it stands for.
///
/// # Errors
/// 400 for what is no such message, which names the message and the field; 415 for kinds that Kubernetes does not have.
pub fn parse(body: &[u8]) -> Result<Value, Status> {
    let bad = |what: String| Status::bad_request(format!("the object provided is unrecognized: {what}"));
    let unknown = envelope::open(body).map_err(|error| bad(error.to_string()))?;
    let (api_version, kind) = (unknown.api_version, unknown.kind);
    let Some(message) = Message::of_kind(api_version, kind) else {
        let what = format!("{MEDIA_TYPE} is not read of {api_version} {kind:?}: send application/json");
        return Err(Status::new(415, "UnsupportedMediaType", what));
    };
    let mut value = decode::object(message, unknown.raw).map_err(|error| bad(error.to_string()))?;
    if !api_version.is_empty() {
        value.insert("apiVersion".to_owned(), Value::from(api_version));
    }
    value.insert("kind".to_owned(), Value::from(kind));
    Ok(Value::Object(value))
}

/// True if objects of the kind have a form in Protobuf.
pub(crate) fn has_message(served: &Served) -> bool {
    Message::of_kind(&served.api_version(), &served.resource.kind).is_some()
}

/// An object of a kind from its JSON, in its envelope.
///
/// # Errors
/// 500 for a kind without a message, and for JSON that is no object of it.
pub(crate) fn object(api_version: &str, kind: &str, json: &str) -> Result<Vec<u8>, Status> {
    let message = Message::of_kind(api_version, kind)
        .ok_or_else(|| Status::internal(format!("there is no message of {api_version} {kind}")))?;
    envelope::typed(message, api_version, kind, json).map_err(untold)
}

/// Appends the message of an object from its JSON.
///
/// # Errors
/// 500 for JSON that is no object of it.
pub(crate) fn append(message: Message, json: &str, out: &mut Vec<u8>) -> Result<(), Status> {
    encode::object(message, &mut serde_json::Deserializer::from_str(json), out).map_err(untold)
}

/// Appends an object's message to those of a list.
pub(crate) fn put_item(list: &mut Vec<u8>, message: &[u8]) {
    wire::put_bytes(list, 2, message);
}

fn untold(error: serde_json::Error) -> Status {
    Status::internal(format!("an object is not told in Protobuf: {error}"))
}
