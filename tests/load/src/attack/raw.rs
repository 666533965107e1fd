//! TLS and hand-made WebSocket and HTTP bytes: nothing of ours stands between an attacker and the wire.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Trusts the CA in `folder`; shows the certificate there if `presenting`.
pub(super) fn config(folder: &Path, presenting: bool) -> Result<Arc<ClientConfig>> {
    let ca = pki::files::read_ca(&folder.join("ca.crt"))?;
    let identity = pki::files::read_identity(&folder.join("edge.crt"), &folder.join("edge.key"))?;
    Ok(pki::tls::client(&ca, presenting.then_some(&identity))?)
}

pub(super) async fn tls(config: &Arc<ClientConfig>, target: &str) -> Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(target).await?;
    let connector = TlsConnector::from(config.clone());
    Ok(connector.connect(ServerName::try_from("127.0.0.1")?, tcp).await?)
}

/// The request of an upgrade, without its last line.
pub(super) fn upgrade_request(node: &str, protocol: Option<&str>) -> String {
    let protocol = protocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
    format!(
        "GET /attack/{node}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: YXR0YWNrIGF0dGFjayBhIQ==\r\nNode_id: {node}\r\n\
         Project_id: attack\r\nConnectionuse: msg\r\n{protocol}"
    )
}

/// Becomes a WebSocket of `node`.
pub(super) async fn upgrade<S>(stream: &mut S, node: &str, protocol: Option<&str>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(format!("{}\r\n", upgrade_request(node, protocol)).as_bytes()).await?;
    let head = read_head(stream).await?;
    ensure!(head.starts_with("HTTP/1.1 101"), "refused: {}", head.lines().next().unwrap_or_default());
    Ok(())
}

/// Reads up to the empty line.
pub(super) async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < 16 * 1024, "a head without an end");
        head.push(stream.read_u8().await?);
    }
    String::from_utf8(head).context("a head that is not text")
}

/// Who sends a frame: clients mask (here with zeros, which change nothing).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Client,
    Server,
}

/// Opcodes, with the bit of a last fragment.
pub(super) const TEXT: u8 = 0x81;
pub(super) const TEXT_BEGUN: u8 = 0x01;
pub(super) const MORE: u8 = 0x00;
pub(super) const BINARY: u8 = 0x82;

/// A header that claims `length` bytes, which need not be true.
pub(super) fn header(end: End, opcode: u8, length: u64) -> Vec<u8> {
    let mask = if end == End::Client { 0x80 } else { 0 };
    let mut header = vec![opcode];
    match u16::try_from(length) {
        Ok(short) if short < 126 => header.push(mask | short as u8),
        Ok(medium) => {
            header.push(mask | 126);
            header.extend(medium.to_be_bytes());
        }
        Err(_) => {
            header.push(mask | 127);
            header.extend(length.to_be_bytes());
        }
    }
    if end == End::Client {
        header.extend([0; 4]);
    }
    header
}

pub(super) fn frame(end: End, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(end, opcode, payload.len() as u64);
    frame.extend_from_slice(payload);
    frame
}

/// Sends until the peer closes or `times` are over.
pub(super) async fn repeat<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8], times: usize) -> Result<()> {
    for _ in 0..times {
        stream.write_all(bytes).await?;
    }
    Ok(())
}

/// Reads and forgets until the peer closes.
pub(super) async fn until_closed<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut buffer = [0; 4096];
    while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
}
