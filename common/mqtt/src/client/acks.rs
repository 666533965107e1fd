//! Acknowledges messages of the broker when their receivers are done with them, in the order they came. What is lost is
//! not acknowledged, nor what came after it on the same connection: the connection is ended and the broker sends again.

use rumqttc::AsyncClient;
use tokio::sync::{mpsc, watch};

use crate::Outlook;

/// A message the broker is yet to be told of.
pub(super) struct Unacknowledged {
    pub publish: rumqttc::Publish,
    pub outlook: Outlook,
    /// Number of the connection it came on.
    pub connection: u64,
}

/// Runs until the driver is gone.
pub(super) async fn run(
    mut waiting: mpsc::Receiver<Unacknowledged>,
    requests: AsyncClient,
    connected: watch::Receiver<u64>,
) {
    let mut broken = 0;
    while let Some(Unacknowledged { publish, mut outlook, connection }) = waiting.recv().await {
        let completed = outlook.completed().await;
        // Of an older connection: it comes again on the new one.
        if connection == broken || connection != *connected.borrow() {
            continue;
        }
        let sent = if completed {
            requests.ack(&publish).await
        } else {
            tracing::warn!(name = %publish.topic, "MQTT message was not stored, asking the broker for it again");
            broken = connection;
            requests.disconnect().await
        };
        if sent.is_err() {
            return;
        }
    }
}
