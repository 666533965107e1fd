//! One kind of attack, in a process of its own. Runs until its standard input closes, then prints what it did.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::bombs::{self, Bomb};
use super::orders::{AGAIN, Counts, Flags, Kind, node_name};
use super::raw::{self, End};
use super::{flood, hostile_cloud, makes, mqtt, neighbour, quic, renewals};

/// Thousands of tasks that all come again at once measure the kernel.
const HALF_OPEN_AGAIN: Duration = Duration::from_secs(1);

pub(crate) async fn run(flags: Flags) -> Result<()> {
    let counts = Arc::<Counts>::default();
    let flags = Arc::new(flags);
    if flags.kind == Kind::HostileCloud {
        tokio::spawn(hostile_cloud::serve(flags.clone(), counts.clone()));
    } else if flags.kind == Kind::Neighbour {
        let address = neighbour::listen().await?;
        for _ in 0..flags.connections {
            let counts = counts.clone();
            tokio::spawn(async move { neighbour::talk(address, &counts).await });
        }
    } else {
        let again = if flags.kind == Kind::HalfOpen { HALF_OPEN_AGAIN } else { AGAIN };
        for number in 0..flags.connections {
            let (flags, counts) = (flags.clone(), counts.clone());
            tokio::spawn(async move {
                loop {
                    counts.opened.fetch_add(1, Ordering::Relaxed);
                    // An error is what an attacker expects.
                    let _ = attack(&flags, number).await;
                    counts.ended.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(again).await;
                }
            });
        }
    }
    println!("{}", json!({"started": true}));
    let mut nothing = String::new();
    tokio::io::stdin().read_to_string(&mut nothing).await?;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!("{}", json!({"opened": count(&counts.opened), "ended": count(&counts.ended)}));
    Ok(())
}

/// One connection of the `number`th attacking task, until it ends.
async fn attack(flags: &Flags, number: usize) -> Result<()> {
    let target = flags.target.as_str();
    match flags.kind {
        Kind::HalfOpen => {
            let mut tcp = TcpStream::connect(target).await?;
            if number % 2 == 1 {
                // The record of a ClientHello that says it is longer.
                tcp.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 7, 7, 7]).await?;
            }
            raw::until_closed(&mut tcp).await;
        }
        Kind::SlowUpgrade => {
            let mut stream = raw::tls(&config(flags, number, true)?, target).await?;
            let request = raw::upgrade_request(&node_name(number % flags.nodes), None);
            for byte in request.bytes().chain(std::iter::repeat(b'x')) {
                stream.write_all(&[byte]).await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        Kind::Lengths => {
            let bombs = [Bomb::Length, Bomb::Gigabyte, Bomb::Fragments, Bomb::Large, Bomb::Field];
            throw(flags, number, &bombs).await?;
        }
        Kind::Deep => throw(flags, number, &[Bomb::Deep]).await?,
        Kind::Unpack => throw(flags, number, &[Bomb::Unpack, Bomb::Zstd]).await?,
        Kind::Registration => registration(flags, number).await?,
        Kind::Renewals => {
            let (own, none) = (config(flags, number, true)?, config(flags, number, false)?);
            let nodes = (number % flags.nodes, (number + 1) % flags.nodes);
            let (node, other) = (node_name(nodes.0), node_name(nodes.1));
            renewals::attack((&own, &none), target, (&node, &other), number).await?;
        }
        Kind::Makes => {
            makes::attack(&config(flags, number, true)?, target, &node_name(number % flags.nodes)).await?;
        }
        Kind::Quic => quic::attack(&*config(flags, number, true)?, target, number).await?,
        Kind::Mqtt => mqtt::attack(target, number).await?,
        Kind::BrokerFlood => flood::attack(target, number).await?,
        Kind::SilentMappers => {
            let mut socket = UnixStream::connect(target).await?;
            if number.is_multiple_of(2) {
                raw::until_closed(&mut socket).await;
            }
        }
        Kind::Mappers => {
            let mut socket = UnixStream::connect(target).await?;
            match number % 3 {
                0 => {}
                1 => socket.write_all(&[0xff; 64 * 1024]).await?,
                _ => {
                    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
                    // A header block that does not end: HEADERS, then CONTINUATION for ever.
                    let block = [[0, 0x40, 0, 0x01, 0, 0, 0, 0, 1].as_slice(), &[0x40; 0x4000]].concat();
                    let more = [[0, 0x40, 0, 0x09, 0, 0, 0, 0, 1].as_slice(), &[0x40; 0x4000]].concat();
                    socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
                    socket.write_all(&block).await?;
                    raw::repeat(&mut socket, &more, 10_000).await?;
                }
            }
            raw::until_closed(&mut socket).await;
        }
        Kind::Neighbour | Kind::HostileCloud => anyhow::bail!("does not dial"),
    }
    Ok(())
}

fn config(flags: &Flags, number: usize, presenting: bool) -> Result<Arc<rustls::ClientConfig>> {
    raw::config(&flags.folder.join(node_name(number % flags.nodes)), presenting)
}

/// Connects as an enrolled node and throws one of the bombs.
async fn throw(flags: &Flags, number: usize, bombs: &[Bomb]) -> Result<()> {
    let bomb = *bombs.get(number / flags.nodes % bombs.len()).context("bombs")?;
    let mut stream = raw::tls(&config(flags, number, true)?, &flags.target).await?;
    let protocol = bomb.is_native().then_some(native::NAME);
    raw::upgrade(&mut stream, &node_name(number % flags.nodes), protocol).await?;
    bombs::throw(bomb, End::Client, &mut stream).await
}

async fn registration(flags: &Flags, number: usize) -> Result<()> {
    let mut stream = raw::tls(&config(flags, number, number.is_multiple_of(4))?, &flags.target).await?;
    let head = |length: u64| {
        let node = node_name(number % flags.nodes);
        format!(
            "POST /edge.crt HTTP/1.1\r\nHost: x\r\nNodeName: {node}\r\nAuthorization: Bearer a.b.c\r\n\
             Content-Length: {length}\r\n\r\n"
        )
    };
    match number % 4 {
        // With the node's certificate: a body without end, then noise.
        0 if number.is_multiple_of(8) => {
            stream.write_all(head(1 << 40).as_bytes()).await?;
            raw::repeat(&mut stream, &[b'x'; 64 * 1024], 16 * 1024).await?;
        }
        0 => {
            stream.write_all(head(8192).as_bytes()).await?;
            stream.write_all(&[0x30; 8192]).await?;
        }
        // Without: a slow body, a slow head, nothing.
        1 => {
            stream.write_all(head(60_000).as_bytes()).await?;
            slowly(&mut stream).await?;
        }
        2 => slowly(&mut stream).await?,
        _ => {}
    }
    raw::until_closed(&mut stream).await;
    Ok(())
}

async fn slowly(stream: &mut (impl AsyncWriteExt + Unpin)) -> Result<()> {
    for _ in 0..1000 {
        stream.write_all(b"x").await?;
        stream.flush().await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
