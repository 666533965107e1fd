//! A client that stays connected to a broker: it reconnects for ever and subscribes again each time.
//!
//! ```text
//! Client::publish -> Outbox (bounded, loses its oldest) -> feed task -> rumqttc -> broker
//!                            receiver (bounded) <- drive task <- rumqttc <- broker
//!                            receipt completed --> acks task --> rumqttc -> broker
//! ```

mod acks;
mod address;
mod drive;
mod feed;
mod outbox;

use std::sync::Arc;

use rumqttc::{AsyncClient, MqttOptions};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use address::{Address, BadAddress};
use outbox::Outbox;

use crate::{Delivery, Login, MAX_PACKET, Publish, filter};

#[derive(Clone, Debug)]
pub struct Settings {
    pub address: Address,
    /// Must differ from that of every other client of the broker, and be the same after a restart: the broker keeps under
    /// it what was not acknowledged.
    pub client_id: String,
    pub login: Option<Login>,
}

/// Received messages that wait to be taken: a burst of a second.
const INBOX: usize = 1024;
/// Requests between the outbox and the connection; more would only hide the outbox's policy.
const REQUESTS: usize = 16;
/// Header, topic length and identifier of a PUBLISH.
const OVERHEAD: usize = 16;

/// Publishes. The connection ends when the last clone is dropped.
#[derive(Clone)]
pub struct Client {
    outbox: Arc<Outbox>,
    connected: watch::Receiver<u64>,
    _running: Arc<DropGuard>,
}

impl Client {
    /// Starts connecting, in tasks; never fails, whether the broker is there or not. Messages for `subscriptions` (QoS 1)
    /// come in the order received. The broker is told of one when its receipt is completed, and keeps it until then,
    /// over restarts of either side; those of QoS 0 that nobody takes are lost with a log line.
    pub fn start(settings: Settings, subscriptions: Vec<String>) -> (Client, mpsc::Receiver<Delivery>) {
        let mut options = MqttOptions::new(settings.client_id, settings.address.host, settings.address.port);
        options.set_max_packet_size(MAX_PACKET, MAX_PACKET);
        options.set_manual_acks(true);
        options.set_clean_session(false);
        if let Some(login) = settings.login {
            options.set_credentials(login.username, login.password);
        }
        let (requests, events) = AsyncClient::new(options, REQUESTS);
        let (inbox, receiver) = mpsc::channel(INBOX);
        let (connections, connected) = watch::channel(0);
        let stop = CancellationToken::new();
        let outbox = Arc::new(Outbox::default());
        let (unacknowledged, waiting) = mpsc::channel(INBOX);
        tokio::spawn(acks::run(waiting, requests.clone(), connected.clone()));
        let driver = drive::Driver::new(events, inbox, unacknowledged, connections, requests.clone());
        tokio::spawn(driver.run(stop.clone()));
        let feeder =
            feed::Feeder { requests, outbox: outbox.clone(), subscriptions, connected: connected.clone() };
        tokio::spawn(feeder.run(stop.clone()));
        (Client { outbox, connected, _running: Arc::new(stop.drop_guard()) }, receiver)
    }

    /// Queues a message, at once. When the queue is full its oldest message is lost; a bad topic or an oversized
    /// message is lost itself. Both count in [`Client::dropped`].
    pub fn publish(&self, publish: Publish) {
        if filter::is_topic(&publish.topic) && publish.size() + OVERHEAD <= MAX_PACKET {
            self.outbox.put(publish);
        } else {
            self.outbox.refuse();
        }
    }

    /// Messages lost since the start.
    pub fn dropped(&self) -> u64 {
        self.outbox.dropped()
    }

    /// Counts the connections made; it changes each time the broker was reached.
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.connected.clone()
    }
}
