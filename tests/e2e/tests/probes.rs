//! What EdgeCore says of itself: which rooms are ready, and what the link and the broker count.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Result, ensure};
use harness::cloud::Cloud;
use harness::edge::Edge;
use harness::programs::Programs;
use harness::wait::PATIENCE;
use harness::{ports, wait};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS, SubscribeReasonCode};

fn get(port: u16, path: &str) -> Result<String> {
    let mut tcp = TcpStream::connect(("127.0.0.1", port))?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    write!(tcp, "GET {path} HTTP/1.1\r\nhost: edge\r\n\r\n")?;
    let mut text = String::new();
    tcp.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn rooms_are_named_and_counters_of_link_and_broker_move() -> Result<()> {
    let programs = Programs::find()?;
    let scratch = tempfile::tempdir()?;
    let cloud = Cloud::init(&programs, &scratch.path().join("cloud"))?;
    let port = ports::free()?;
    let monitor = format!("commonConfig.monitorServer.bindAddress=127.0.0.1:{port}");
    let (root, link) = (scratch.path().join("edge"), cloud.edge_address());
    let edge = Edge::join_with(&programs, &cloud, "edge-1", &root, link, None, &[&monitor])?;
    let metric = |line: &str| {
        wait::for_true(line, PATIENCE, || Ok(get(port, "/metrics")?.lines().any(|found| found == line)))
    };
    metric("edgecore_edgehub_connected 1")?;
    metric("edgecore_edgehub_sessions_started_total 1")?;
    metric("edgecore_outbox_rows{stream=\"report\"} 0")?;
    let ready = get(port, "/readyz?verbose")?;
    ensure!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    for room in ["devicetwin", "edgehub", "eventbus", "metamanager", "start"] {
        ensure!(ready.contains(&format!("[+]{room} ok\n")), "{room}: {ready}");
    }
    ensure!(get(port, "/healthz")?.ends_with("\r\n\r\nok\n"));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (client, mut events) = AsyncClient::new(MqttOptions::new("app", "127.0.0.1", edge.mqtt_port), 8);
    let codes = runtime.block_on(async {
        client.subscribe("$share/group/a", QoS::AtLeastOnce).await?;
        tokio::time::timeout(PATIENCE, async {
            loop {
                if let Event::Incoming(Packet::SubAck(ack)) = events.poll().await? {
                    return Ok::<_, anyhow::Error>(ack.return_codes);
                }
            }
        })
        .await?
    })?;
    ensure!(codes == [SubscribeReasonCode::Failure]);
    metric("edgecore_mqtt_clients 1")?;
    metric("edgecore_mqtt_subscriptions_refused_total 1")?;

    cloud.kill9()?;
    metric("edgecore_edgehub_connected 0")?;
    cloud.start()?;
    metric("edgecore_edgehub_reconnects_total 1")?;
    Ok(())
}
