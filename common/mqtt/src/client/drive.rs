//! The connection: polls rumqttc, hands out what arrives, reconnects with growing pauses.

use std::time::Duration;

use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, Packet, Request, SubscribeReasonCode};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::acks::Unacknowledged;
use crate::{Delivery, Publish, QoS, Receipt};

/// First pause before connecting again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause: the broker is usually next door.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How long a full inbox may hold the connection up for a message of QoS 0.
const INBOX_WAIT: Duration = Duration::from_secs(5);
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

pub(super) struct Driver {
    events: EventLoop,
    inbox: mpsc::Sender<Delivery>,
    /// Messages of QoS 1 whose receivers are not done.
    unacknowledged: mpsc::Sender<Unacknowledged>,
    /// Counts connections, for the feeder.
    connections: watch::Sender<u64>,
    requests: AsyncClient,
    /// Messages that were not confirmed when the connection broke.
    unconfirmed: Vec<Request>,
    /// Attempts that failed since the last connection.
    failures: u32,
}

impl Driver {
    pub(super) fn new(
        events: EventLoop,
        inbox: mpsc::Sender<Delivery>,
        unacknowledged: mpsc::Sender<Unacknowledged>,
        connections: watch::Sender<u64>,
        requests: AsyncClient,
    ) -> Driver {
        Driver { events, inbox, unacknowledged, connections, requests, unconfirmed: Vec::new(), failures: 0 }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let polled = tokio::select! {
                biased;
                _ = stop.cancelled() => break,
                polled = self.events.poll() => polled,
            };
            match polled {
                Ok(Event::Incoming(packet)) => tokio::select! {
                    biased;
                    _ = stop.cancelled() => break,
                    () = self.on_packet(packet) => {}
                },
                Ok(Event::Outgoing(_)) => {}
                Err(error) => {
                    let pause = self.on_failure(error);
                    tokio::select! {
                        biased;
                        _ = stop.cancelled() => return,
                        _ = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
        self.say_goodbye().await;
    }

    async fn on_packet(&mut self, packet: Packet) {
        match packet {
            Packet::ConnAck(_) => {
                let (host, port) = self.events.mqtt_options.broker_address();
                tracing::info!(peer = format!("{host}:{port}"), "connected to the MQTT broker");
                self.failures = 0;
                // rumqttc forgets these on a clean session; sending them again is what QoS 1 promises.
                self.events.pending.extend(self.unconfirmed.drain(..));
                self.connections.send_modify(|count| *count += 1);
            }
            Packet::Publish(publish) => self.hand_out(publish).await,
            Packet::SubAck(ack) if ack.return_codes.contains(&SubscribeReasonCode::Failure) => {
                tracing::warn!("the MQTT broker refused a subscription");
            }
            _ => {}
        }
    }

    /// Keeps what was not confirmed; answers the pause before the next attempt.
    fn on_failure(&mut self, error: ConnectionError) -> Duration {
        let (host, port) = self.events.mqtt_options.broker_address();
        let peer = format!("{host}:{port}");
        // Once per outage: a broker that stays away must not fill the log.
        if self.failures == 0 {
            tracing::warn!(peer, error = %error, "no connection to the MQTT broker, trying again");
        } else {
            tracing::debug!(peer, error = %error, attempt = self.failures, "no connection to the MQTT broker");
        }
        let lost = self.events.pending.drain(..).filter(|request| matches!(request, Request::Publish(_)));
        self.unconfirmed.extend(lost);
        let pause = daemon::backoff::doubled(FIRST_PAUSE, LONGEST_PAUSE, self.failures);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Tells the broker, so that it does not take this for a failure.
    async fn say_goodbye(mut self) {
        if self.failures > 0 || self.requests.try_disconnect().is_err() {
            return;
        }
        let flushed = async { while self.events.poll().await.is_ok() {} };
        let _ = tokio::time::timeout(GOODBYE, flushed).await;
    }

    /// A message that is acknowledged may hold the connection up until there is room for it: should the broker take
    /// that for a failure, it sends the message again.
    async fn hand_out(&mut self, publish: rumqttc::Publish) {
        let receipt = Receipt::unwatched();
        let message = Publish {
            topic: publish.topic.clone(),
            payload: publish.payload.clone(),
            qos: publish.qos,
            retain: publish.retain,
        };
        if publish.qos == QoS::AtMostOnce {
            let delivery = Delivery { publish: message, receipt };
            let sent = self.inbox.send_timeout(delivery, INBOX_WAIT).await;
            if let Err(mpsc::error::SendTimeoutError::Timeout(lost)) = sent {
                tracing::warn!(name = %lost.topic, "MQTT message lost, nobody took it");
            }
            return;
        }
        let connection = *self.connections.borrow();
        let outlook = receipt.watch();
        let unacknowledged = Unacknowledged { publish, outlook, connection };
        // Who closed an inbox is ending, and the broker keeps the message.
        if self.unacknowledged.send(unacknowledged).await.is_ok() {
            let _ = self.inbox.send(Delivery { publish: message, receipt }).await;
        }
    }
}
