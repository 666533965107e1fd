//! A cloud the edge trusts, because its certificate says so, and should not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use pki::tls::ClientCertificate;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::bombs::{self, Bomb};
use super::orders::{Counts, Flags};
use super::raw::{self, End};

/// For an edge that offers the native dialect, and for one that does not, in turn.
const NATIVE: [Bomb; 3] = [Bomb::Unpack, Bomb::Zstd, Bomb::Field];
const KUBEEDGE: [Bomb; 5] = [Bomb::Large, Bomb::Gigabyte, Bomb::Deep, Bomb::Length, Bomb::Fragments];
/// A victim that reads and says nothing is left after this, so that the next bomb gets its turn.
const TURN: Duration = Duration::from_secs(4);

pub(super) async fn serve(flags: Arc<Flags>, counts: Arc<Counts>) -> Result<()> {
    let ca = pki::files::read_ca(&flags.folder.join("ca.crt"))?;
    let identity = pki::files::read_identity(&flags.folder.join("edge.crt"), &flags.folder.join("edge.key"))?;
    let tls = TlsAcceptor::from(pki::tls::server(&identity, &ca, ClientCertificate::Required, &[])?);
    let listener = TcpListener::bind(&flags.target).await?;
    for turn in 0.. {
        let (tcp, _) = listener.accept().await?;
        if turn == 0 {
            println!("{}", json!({"met": true}));
        }
        let (tls, counts) = (tls.clone(), counts.clone());
        tokio::spawn(async move {
            counts.opened.fetch_add(1, Ordering::Relaxed);
            // An error is what an attacker expects.
            let _ = tokio::time::timeout(TURN, meet(tcp, tls, turn)).await;
            counts.ended.fetch_add(1, Ordering::Relaxed);
        });
    }
    Ok(())
}

async fn meet(tcp: TcpStream, tls: TlsAcceptor, turn: usize) -> Result<()> {
    let mut stream = tls.accept(tcp).await?;
    let head = raw::read_head(&mut stream).await?;
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    });
    let key = key.context("no key in the upgrade")?;
    let accept = derive_accept_key(key.as_bytes());
    // Not taking up the offer makes an edge come back without it.
    let native = head.contains(native::NAME) && turn.is_multiple_of(2);
    let (bomb, protocol) = match native {
        true => (NATIVE[turn / 2 % NATIVE.len()], format!("Sec-WebSocket-Protocol: {}\r\n", native::NAME)),
        false => (KUBEEDGE[turn % KUBEEDGE.len()], String::new()),
    };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    bombs::throw(bomb, End::Server, &mut stream).await
}
