//! Publishing to every broker the bus uses.

use std::net::SocketAddr;

use mqtt::broker;
use mqtt::client::Client;
use mqtt::{Publish, QoS};

/// The bus's way in.
#[derive(Clone)]
pub struct Handle {
    pub(super) internal: Option<broker::Handle>,
    pub(super) external: Option<Client>,
    pub(super) address: Option<SocketAddr>,
}

impl Handle {
    /// Publishes at QoS 1, not retained. Never waits; what nobody can take is lost oldest first and counted.
    pub fn publish(&self, topic: String, payload: String) {
        let publish = Publish::new(topic, payload, QoS::AtLeastOnce);
        if let Some(external) = &self.external {
            external.publish(publish.clone());
        }
        if let Some(internal) = &self.internal {
            internal.publish(publish);
        }
    }

    /// True if somebody may hear what is published on `topic`: of another broker that is not known.
    pub fn is_heard(&self, topic: &str) -> bool {
        self.external.is_some() || self.internal.as_ref().is_some_and(|internal| internal.is_wanted(topic))
    }

    /// Messages lost since the start, in and out.
    pub fn dropped(&self) -> u64 {
        let internal = self.internal.as_ref().map_or(0, broker::Handle::dropped);
        internal + self.external.as_ref().map_or(0, Client::dropped)
    }

    /// What the embedded broker counts; `None` if there is none.
    pub fn broker(&self) -> Option<broker::Counts> {
        self.internal.as_ref().map(broker::Handle::counts)
    }

    /// Where the embedded broker listens.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.address
    }
}
