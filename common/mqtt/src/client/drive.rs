//! The connection: polls rumqttc, hands out what arrives, reconnects with growing pauses.

use std::time::Duration;

use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, Packet, Request, SubscribeReasonCode};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::Publish;

/// First pause before connecting again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause: the broker is usually next door.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How long a full inbox may hold the connection up; its keepalive is a minute.
const INBOX_WAIT: Duration = Duration::from_secs(5);
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

pub(super) struct Driver {
    events: EventLoop,
    inbox: mpsc::Sender<Publish>,
    /// Counts connections, for the feeder.
    connections: watch::Sender<u64>,
    requests: AsyncClient,
    /// Messages that were not confirmed when the connection broke.
    unconfirmed: Vec<Request>,
    /// Attempts that failed since the last connection.
    failures: u32,
}

impl Driver {
    pub fn new(
        events: EventLoop,
        inbox: mpsc::Sender<Publish>,
        connections: watch::Sender<u64>,
        requests: AsyncClient,
    ) -> Driver {
        Driver { events, inbox, connections, requests, unconfirmed: Vec::new(), failures: 0 }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let polled = tokio::select! {
                biased;
                _ = stop.cancelled() => break,
                polled = self.events.poll() => polled,
            };
            match polled {
                Ok(Event::Incoming(packet)) => self.on_packet(packet).await,
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
            Packet::Publish(publish) => hand_out(&self.inbox, publish).await,
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
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(8)).min(LONGEST_PAUSE);
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
}

async fn hand_out(inbox: &mpsc::Sender<Publish>, publish: rumqttc::Publish) {
    let rumqttc::Publish { topic, payload, qos, retain, .. } = publish;
    let message = Publish { topic, payload, qos, retain };
    if let Err(mpsc::error::SendTimeoutError::Timeout(lost)) = inbox.send_timeout(message, INBOX_WAIT).await {
        tracing::warn!(name = %lost.topic, "MQTT message lost, nobody took it");
    }
}
