//! An app on the node speaks KubeEdge's MQTT topics to EdgeCore's embedded broker, with a foreign client.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::programs::Programs;
use harness::site::{NODE, Site};
use harness::wait::PATIENCE;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use serde_json::Value;

const DEVICE: &str = "$hw/events/device/default/thermometer";

#[test]
fn twins_states_and_memberships_have_the_topics_and_payloads_kubeedge_gives() -> Result<()> {
    let site = Site::start(&Programs::find()?, false, |_| {})?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut options = MqttOptions::new("app", "127.0.0.1", site.edge.mqtt_port);
    options.set_keep_alive(Duration::from_secs(10));
    let (client, mut events) = AsyncClient::new(options, 64);
    runtime.block_on(async {
        client.subscribe("$hw/events/#", QoS::AtLeastOnce).await?;
        subscribed(&mut events).await
    })?;
    site.apply_thermometer()?;

    let joined =
        runtime.block_on(next(&mut events, &format!("$hw/events/node/{NODE}/membership/updated")))?;
    assert_eq!(joined["added_devices"][0]["id"], "default/thermometer");
    assert!(joined["removed_devices"].is_null());
    // The desired threshold reaches an app that speaks MQTT only.
    let delta = runtime.block_on(next(&mut events, &format!("{DEVICE}/twin/update/delta")))?;
    assert_eq!(delta["delta"]["threshold"], "30");

    let ask = |topic: &str, payload: &str, answer: &str, events: &mut EventLoop| -> Result<Value> {
        runtime.block_on(async {
            client.publish(topic, QoS::AtLeastOnce, false, payload).await?;
            next(events, answer).await
        })
    };
    let update = r#"{"event_id":"e1","timestamp":0,"twin":{"temperature":{"actual":{"value":"36.6"},"metadata":{"type":"string"}}}}"#;
    let result =
        ask(&format!("{DEVICE}/twin/update"), update, &format!("{DEVICE}/twin/update/result"), &mut events)?;
    assert_eq!(result["event_id"], "e1");
    assert_eq!(result["twin"]["temperature"]["actual"]["value"], "36.6");
    assert_eq!(result["twin"]["temperature"]["metadata"]["type"], "string");
    assert!(result.get("code").is_none());
    let document = runtime.block_on(next(&mut events, &format!("{DEVICE}/twin/update/document")))?;
    assert!(document["twin"]["temperature"]["last"].is_null());
    let get = ask(
        &format!("{DEVICE}/twin/get"),
        r#"{"event_id":"e2"}"#,
        &format!("{DEVICE}/twin/get/result"),
        &mut events,
    )?;
    assert_eq!(get["twin"]["temperature"]["actual"]["value"], "36.6");
    let state = ask(
        &format!("{DEVICE}/state/update"),
        r#"{"event_id":"e3","timestamp":0,"state":"online"}"#,
        &format!("{DEVICE}/state/update/result"),
        &mut events,
    )?;
    assert_eq!(state["device"]["state"], "online");
    let members = ask(
        &format!("$hw/events/node/{NODE}/membership/get"),
        r#"{"event_id":"e4"}"#,
        &format!("$hw/events/node/{NODE}/membership/get/result"),
        &mut events,
    )?;
    assert_eq!(members["devices"][0]["id"], "default/thermometer");
    let refused = ask(
        &format!("{DEVICE}/twin/update"),
        "not JSON",
        &format!("{DEVICE}/twin/update/result"),
        &mut events,
    )?;
    assert_eq!(refused["code"], 400);

    // And the cloud has it in DeviceStatus, the first value included.
    site.wait_reported("temperature", |value| value == "36.6")?;
    Ok(())
}

async fn subscribed(events: &mut EventLoop) -> Result<()> {
    let granted = async {
        loop {
            if let Ok(Event::Incoming(Packet::SubAck(_))) = events.poll().await {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, granted).await.context("no subscription")
}

/// The payload of the next message on `topic`; others are passed over.
async fn next(events: &mut EventLoop, topic: &str) -> Result<Value> {
    let wanted = async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::Publish(publish))) if publish.topic == topic => {
                    return Ok(serde_json::from_slice(&publish.payload)?);
                }
                Ok(_) => {}
                Err(error) => bail!("broker connection: {error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, wanted).await.with_context(|| format!("nothing on {topic}"))?
}
