//! Bytes to [`Message`] and back, in the form Go's encoder gives.

use crate::{MAX_MESSAGE_BYTES, Message};

#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("message of {size} bytes is larger than the limit of {MAX_MESSAGE_BYTES}")]
    TooLarge { size: usize },
    #[error("message is empty")]
    Empty,
    #[error("message is not a JSON envelope")]
    NotAnEnvelope(#[source] serde_json::Error),
}

impl DecodeError {
    /// True if more bytes may make it a message.
    pub fn may_continue(&self) -> bool {
        match self {
            DecodeError::Empty => true,
            DecodeError::NotAnEnvelope(error) => error.is_eof(),
            DecodeError::TooLarge { .. } => false,
        }
    }
}

/// Decodes the first JSON value of a frame; data after it is ignored, as Go does (docs/protocol/transport.md 1.1).
///
/// ```
/// let frame = br#"{"header":{"msg_id":"m1","timestamp":1760000000000},
///     "route":{"source":"websocket","group":"resource","operation":"keepalive","resource":"node"},"content":"ping"}"#;
/// let message = message::decode(frame)?;
/// assert_eq!((message.route.operation.as_str(), message.content.text()), ("keepalive", "\"ping\""));
/// # Ok::<(), message::DecodeError>(())
/// ```
///
/// # Errors
/// [`DecodeError`]: the frame is empty, larger than [`MAX_MESSAGE_BYTES`], or no envelope.
pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(DecodeError::TooLarge { size: bytes.len() });
    }
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Message>();
    match values.next() {
        None => Err(DecodeError::Empty),
        Some(Err(error)) => Err(DecodeError::NotAnEnvelope(error)),
        Some(Ok(message)) => Ok(message),
    }
}

/// Encodes a message as one line with the newline Go's encoder writes.
pub fn encode(message: &Message) -> String {
    // Strings, integers and raw JSON cannot fail to encode.
    let mut text = serde_json::to_string(message).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Json, MessageId, Route};

    #[test]
    fn an_empty_route_is_written_as_an_empty_object_and_absent_content_as_null() {
        let message = Message::new(Route::default(), Json::null(), 7).with_id(MessageId("m".into()));
        assert_eq!(
            encode(&message),
            "{\"header\":{\"msg_id\":\"m\",\"timestamp\":7},\"route\":{},\"content\":null}\n"
        );
    }

    #[test]
    fn the_worked_heartbeat_of_the_specification_is_reproduced_to_the_byte() {
        let message = Message::new(
            Route::new("websocket", "resource", "keepalive", "node"),
            Json::string("ping"),
            1700000000000,
        )
        .with_id(MessageId("6f1c8a52-6d1e-4f0c-9a57-2d2b9a6f1a10".into()));
        assert_eq!(encode(&message).len(), 196);
    }

    #[test]
    fn trailing_data_is_ignored_and_a_fractional_timestamp_is_refused() {
        let text = br#"{"header":{"msg_id":"a","timestamp":1},"route":{},"content":1} {"x""#;
        assert_eq!(decode(text).unwrap().header.msg_id.0, "a");
        let text = br#"{"header":{"msg_id":"a","timestamp":1.5},"route":{},"content":1}"#;
        assert!(matches!(decode(text), Err(DecodeError::NotAnEnvelope(_))));
        assert!(matches!(decode(b""), Err(DecodeError::Empty)));
    }

    #[test]
    fn large_integers_and_deep_nesting_in_content_survive_unread() {
        let deep = format!("{}9007199254740993{}", "[".repeat(5000), "]".repeat(5000));
        let text =
            format!("{{\"header\":{{\"msg_id\":\"a\",\"timestamp\":1}},\"route\":{{}},\"content\":{deep}}}");
        assert_eq!(decode(text.as_bytes()).unwrap().content.text(), deep);
    }
}
