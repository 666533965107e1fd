//! Header, route and content of one wire message (docs/protocol/transport.md 1.1).

use serde::{Deserialize, Serialize};

use crate::Json;

/// Identity of a message: a UUID v4 text from us, opaque from a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(pub String);

impl MessageId {
    pub fn random() -> MessageId {
        MessageId(uuid::Uuid::new_v4().to_string())
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who a message is, what it answers, when it was made and which version it carries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    pub msg_id: MessageId,
    #[serde(skip_serializing_if = "MessageId::is_empty")]
    pub parent_msg_id: MessageId,
    /// Unix time in milliseconds.
    pub timestamp: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resourceversion: String,
    #[serde(skip_serializing_if = "is_false")]
    pub sync: bool,
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Where a message comes from and what it asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operation: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
}

impl Route {
    pub fn new(source: &str, group: &str, operation: &str, resource: impl Into<String>) -> Route {
        Route {
            source: source.to_owned(),
            destination: String::new(),
            group: group.to_owned(),
            operation: operation.to_owned(),
            resource: resource.into(),
        }
    }
}

/// One envelope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub header: Header,
    #[serde(default)]
    pub route: Route,
    #[serde(default = "Json::null")]
    pub content: Json,
}

impl Message {
    /// A message with a fresh id. `now_ms` is Unix time in milliseconds.
    pub fn new(route: Route, content: Json, now_ms: i64) -> Message {
        let header = Header { msg_id: MessageId::random(), timestamp: now_ms, ..Header::default() };
        Message { header, route, content }
    }

    pub fn with_version(mut self, version: &str) -> Message {
        self.header.resourceversion = version.to_owned();
        self
    }

    pub fn answering(mut self, parent: &MessageId) -> Message {
        self.header.parent_msg_id = parent.clone();
        self
    }

    pub fn with_id(mut self, id: MessageId) -> Message {
        self.header.msg_id = id;
        self
    }

    /// The acknowledgement of this message: same route, operation response, content "OK" (docs/protocol/transport.md 1.6).
    pub fn ack(&self, now_ms: i64) -> Message {
        let mut route = self.route.clone();
        route.operation = "response".to_owned();
        Message::new(route, Json::string("OK"), now_ms).answering(&self.header.msg_id)
    }

    /// The answer to a question of the transport (docs/protocol/transport.md 2.1).
    pub fn control_reply(&self, now_ms: i64) -> Message {
        let mut route = self.route.clone();
        route.operation = "response".to_owned();
        Message::new(route, Json::string("ack"), now_ms).answering(&self.header.msg_id)
    }

    pub fn is_ok(&self) -> bool {
        self.content.text() == "\"OK\""
    }
}
