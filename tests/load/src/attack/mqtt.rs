//! Against the edge's broker, by hand-made MQTT 3.1.1.

use anyhow::Result;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::raw::{repeat, until_closed};

/// `clean`: the session ends with the connection.
pub(super) fn connect(id: &str, clean: bool) -> Vec<u8> {
    let mut packet = vec![0x10, (12 + id.len()) as u8, 0, 4];
    packet.extend(b"MQTT\x04");
    packet.extend([if clean { 2 } else { 0 }, 0, 0x3c]);
    packet.extend([0, id.len() as u8]);
    packet.extend(id.as_bytes());
    packet
}

pub(super) const DISCONNECT: [u8; 2] = [0xe0, 0];

/// A packet of type `first` whose length is true.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut left = body.len();
    loop {
        let more = if left > 127 { 0x80 } else { 0 };
        packet.push((left % 128) as u8 | more);
        left /= 128;
        if left == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend(topic.as_bytes());
    body.extend(payload);
    packet(0x30, &body)
}

/// Of QoS 1.
pub(super) fn publish_confirmed(topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend(topic.as_bytes());
    body.extend(id.to_be_bytes());
    body.extend(payload);
    packet(0x32, &body)
}

pub(super) fn subscribe(number: u16, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = number.to_be_bytes().to_vec();
    body.extend((filter.len() as u16).to_be_bytes());
    body.extend(filter.as_bytes());
    body.push(qos);
    packet(0x82, &body)
}

pub(super) async fn attack(target: &str, number: usize) -> Result<()> {
    let mut tcp = TcpStream::connect(target).await?;
    let chunk = vec![b'x'; 64 * 1024];
    if !number.is_multiple_of(8) {
        tcp.write_all(&connect(&format!("evil-{number}"), true)).await?;
    }
    match number % 8 {
        // Silence before CONNECT; silence after it.
        0 | 1 => {}
        // 256 MiB are announced, and begin to come.
        2 => {
            tcp.write_all(&[0x30, 0xff, 0xff, 0xff, 0x7f]).await?;
            repeat(&mut tcp, &chunk, 4096).await?;
        }
        // Deep JSON where twins are read.
        3 => {
            let nested = "[".repeat(100_000);
            repeat(&mut tcp, &publish("$hw/events/device/d/twin/update", nested.as_bytes()), 200).await?;
        }
        // Large publications that a reader who does not read asked for.
        4 => repeat(&mut tcp, &publish("evil", &vec![b'x'; 200 * 1024]), 500).await?,
        5 => {
            tcp.write_all(&subscribe(1, "evil", 0)).await?;
            tokio::time::sleep(std::time::Duration::from_secs(20)).await;
        }
        // Very many subscriptions.
        6 => {
            for filter in 0..20_000_u16 {
                tcp.write_all(&subscribe(
                    filter.max(1),
                    &format!("evil/{number}/{filter}/{}", "x".repeat(200)),
                    0,
                ))
                .await?;
            }
        }
        // Retained messages on very many topics.
        _ => {
            for topic in 0..20_000 {
                let mut retained = publish(&format!("evil/{number}/{topic}"), &[b'x'; 1000]);
                retained[0] |= 1;
                tcp.write_all(&retained).await?;
            }
        }
    }
    until_closed(&mut tcp).await;
    Ok(())
}
