//! MQTT 3.1.1 at the edge: the topics KubeEdge apps use, an embedded broker, and a client for a broker next door.
//!
//! Everything is bounded: queues, retained messages, sessions, connections and packets. What does not fit waits, or is
//! lost by the policy its owner states and counted. A message of QoS 1 or 2 is acknowledged when its [`Receipt`] is
//! completed, not before.

#![deny(clippy::missing_errors_doc)]

pub mod broker;
pub mod client;
pub mod filter;
mod login;
mod receipt;
pub mod topics;

use bytes::Bytes;
pub use login::Login;
pub use receipt::{Delivery, Outlook, Receipt};
pub use rumqttc::QoS;

/// Largest packet accepted and sent unless configured otherwise.
pub const MAX_PACKET: usize = 1024 * 1024;

/// One application message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub topic: String,
    pub payload: Bytes,
    pub qos: QoS,
    /// Going in: keep this as the topic's retained message. Coming out: this was a retained message.
    pub retain: bool,
}

impl Publish {
    /// A message that is not retained.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>, qos: QoS) -> Publish {
        Publish { topic: topic.into(), payload: payload.into(), qos, retain: false }
    }

    /// Bytes it counts for against limits.
    fn size(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}
