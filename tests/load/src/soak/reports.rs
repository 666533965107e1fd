//! Devices of one edge that report numbers over MQTT, each one more than before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Result;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Requests that wait for the connection.
const WAITING: usize = 64;

/// One edge's devices.
pub(super) struct Reports {
    /// Name of each device and the last value it sent.
    pub devices: Vec<(String, Arc<AtomicU64>)>,
    sent: Arc<AtomicU64>,
    acknowledged: Arc<AtomicU64>,
}

pub(super) fn device_names(node: &str, each: usize) -> Vec<String> {
    (0..each).map(|number| format!("counter-{node}-{number}")).collect()
}

impl Reports {
    /// One value of one device every `pace`, in turn, until stopped.
    pub(super) fn start(
        port: u16,
        node: &str,
        each: usize,
        pace: Duration,
        stop: CancellationToken,
    ) -> Reports {
        let mut options = MqttOptions::new(format!("app-{node}"), "127.0.0.1", port);
        options.set_clean_session(false);
        let (client, mut events) = AsyncClient::new(options, WAITING);
        let devices: Vec<_> =
            device_names(node, each).into_iter().map(|name| (name, Arc::<AtomicU64>::default())).collect();
        let reports = Reports { devices, sent: Arc::default(), acknowledged: Arc::default() };
        let acknowledged = reports.acknowledged.clone();
        tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::PubAck(_))) => {
                        acknowledged.fetch_add(1, Relaxed);
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        let (devices, sent) = (reports.devices.clone(), reports.sent.clone());
        tokio::spawn(async move {
            for (device, value) in devices.iter().cycle() {
                if stop.run_until_cancelled(tokio::time::sleep(pace)).await.is_none() {
                    return;
                }
                let value = value.fetch_add(1, Relaxed) + 1;
                sent.fetch_add(1, Relaxed);
                let topic = format!("$hw/events/device/default/{device}/twin/update");
                let twin = json!({"actual": {"value": value.to_string()}, "metadata": {"type": "int"}});
                let payload = json!({"event_id": value.to_string(), "twin": {"n": twin}}).to_string();
                // Fails only when the task above is gone.
                let _ = client.publish(topic, QoS::AtLeastOnce, false, payload).await;
            }
        });
        reports
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Every value was acknowledged by the edge's broker.
    pub(super) fn are_acknowledged(&self) -> bool {
        self.acknowledged.load(Relaxed) >= self.sent()
    }

    /// Waits until every value is acknowledged.
    pub(super) async fn finish(&self, patience: Duration) -> Result<()> {
        let began = harness::wait::now();
        while !self.are_acknowledged() {
            let (got, sent) = (self.acknowledged.load(Relaxed), self.sent());
            anyhow::ensure!(began.elapsed() < patience, "{got} of {sent} reports acknowledged");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}
