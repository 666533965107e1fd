//! Subscribes on each new connection, then feeds the outbox to it.

use std::sync::Arc;

use rumqttc::{AsyncClient, SubscribeFilter};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;
use crate::QoS;

pub(super) struct Feeder {
    pub requests: AsyncClient,
    pub outbox: Arc<Outbox>,
    pub subscriptions: Vec<String>,
    pub connected: watch::Receiver<u64>,
}

impl Feeder {
    pub(super) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            biased;
            _ = stop.cancelled() => {}
            () = self.feed() => {}
        }
    }

    /// Ends when the driver is gone.
    async fn feed(mut self) {
        if self.connected.changed().await.is_err() {
            return;
        }
        loop {
            self.connected.borrow_and_update();
            if !self.subscribe().await {
                return;
            }
            loop {
                let publish = tokio::select! {
                    biased;
                    changed = self.connected.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    publish = self.outbox.take() => publish,
                };
                let sent = self
                    .requests
                    .publish_bytes(publish.topic, publish.qos, publish.retain, publish.payload)
                    .await;
                if sent.is_err() {
                    return;
                }
            }
        }
    }

    async fn subscribe(&self) -> bool {
        if self.subscriptions.is_empty() {
            return true;
        }
        let filters =
            self.subscriptions.iter().map(|path| SubscribeFilter::new(path.clone(), QoS::AtLeastOnce));
        self.requests.subscribe_many(filters).await.is_ok()
    }
}
