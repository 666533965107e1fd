//! MQTT clients that report as fast as the broker acknowledges.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::set::{self, Newest, Set};

pub(super) struct Reports {
    stop: CancellationToken,
    acknowledged: Arc<AtomicU64>,
    clients: JoinSet<Result<Newest>>,
}

/// One client's devices, and how many properties each has.
type Part = Vec<(usize, usize)>;

impl Reports {
    /// Each of `clients` reports its part of the first node's devices, with `in_flight` values unacknowledged.
    pub(super) fn start(port: u16, set: &Set, clients: usize, in_flight: u16) -> Reports {
        let devices: Part = set.of_node(0).map(|device| (device, set.properties_of(device))).collect();
        let mut reports =
            Reports { stop: CancellationToken::new(), acknowledged: Arc::default(), clients: JoinSet::new() };
        for number in 0..clients {
            let part = devices.iter().copied().skip(number).step_by(clients).collect();
            let mut options = MqttOptions::new(format!("load-{number}"), "127.0.0.1", port);
            options.set_inflight(in_flight);
            let (client, events) = AsyncClient::new(options, usize::from(in_flight));
            let (all, stop) = (reports.acknowledged.clone(), reports.stop.clone());
            reports.clients.spawn(report(client, events, part, all, stop));
        }
        reports
    }

    /// Values acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Relaxed)
    }

    /// Ends the clients once all they sent is acknowledged.
    pub(super) async fn finish(mut self, patience: Duration) -> Result<Newest> {
        self.stop.cancel();
        let mut newest = Newest::new();
        let all = async {
            while let Some(client) = self.clients.join_next().await {
                newest.extend(client??);
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(patience, all).await.context("not all values were acknowledged")??;
        Ok(newest)
    }
}

/// One client: values of its devices, each property's one more than before, until stopped and acknowledged.
async fn report(
    client: AsyncClient,
    events: EventLoop,
    part: Part,
    all: Arc<AtomicU64>,
    stop: CancellationToken,
) -> Result<Newest> {
    let counts = Counts { all, own: Arc::default(), told: Arc::default() };
    let mut hearing = tokio::spawn(hear(events, counts.clone()));
    let mut newest = Newest::new();
    let sending = async {
        let mut sent = 0;
        for value in 1.. {
            for (device, properties) in &part {
                for property in 0..*properties {
                    if stop.is_cancelled() {
                        return Ok(sent);
                    }
                    client.publish(topic(*device), QoS::AtLeastOnce, false, payload(property, value)).await?;
                    newest.insert((*device, property), value);
                    sent += 1;
                }
            }
            anyhow::ensure!(!part.is_empty(), "a client without devices");
        }
        anyhow::Ok(sent)
    };
    let sent = tokio::select! {
        sent = sending => sent?,
        failed = &mut hearing => return Err(failed?),
    };
    let answered = async {
        while counts.own.load(Relaxed) < sent {
            counts.told.notified().await;
        }
    };
    tokio::select! {
        () = answered => hearing.abort(),
        failed = &mut hearing => return Err(failed?),
    }
    Ok(newest)
}

/// Acknowledgements of one client.
#[derive(Clone)]
struct Counts {
    /// And of all others.
    all: Arc<AtomicU64>,
    own: Arc<AtomicU64>,
    told: Arc<Notify>,
}

/// Counts until the connection ends: after another one values would be sent twice, and an edge that closes connections is
/// no measurement.
async fn hear(mut events: EventLoop, counts: Counts) -> anyhow::Error {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::PubAck(_))) => {
                counts.all.fetch_add(1, Relaxed);
                counts.own.fetch_add(1, Relaxed);
                counts.told.notify_one();
            }
            Ok(_) => {}
            Err(error) => return anyhow::Error::new(error).context("the broker is gone"),
        }
    }
}

fn topic(device: usize) -> String {
    format!("$hw/events/device/default/{}/twin/update", set::device_name(device))
}

fn payload(property: usize, value: u64) -> String {
    let name = set::property_name(property);
    format!(
        r#"{{"event_id":"","timestamp":0,"twin":{{"{name}":{{"actual":{{"value":"{value}"}},"metadata":{{"type":"int"}}}}}}}}"#
    )
}
