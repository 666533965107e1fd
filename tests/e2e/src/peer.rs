//! A scripted peer: speaks TLS, HTTP and WebSocket to CloudCore with no code of ours between it and the wire.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message as Frame};

/// Files of an edge's certificate, below its root folder.
const CA: &str = "etc/kubeedge/ca/rootCA.crt";
const CERTIFICATE: &str = "etc/kubeedge/certs/server.crt";
const KEY: &str = "etc/kubeedge/certs/server.key";

pub type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// TLS that trusts the CA of an edge's folder and, if `presenting`, shows its certificate.
pub fn tls(edge_root: &Path, presenting: bool) -> Result<Arc<ClientConfig>> {
    pki::install_provider();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(edge_root.join(CA))?)?;
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let config = if presenting {
        let certificate = CertificateDer::from_pem_file(edge_root.join(CERTIFICATE))?;
        let key = PrivateKeyDer::from_pem_file(edge_root.join(KEY))?;
        builder.with_client_auth_cert(vec![certificate], key)?
    } else {
        builder.with_no_client_auth()
    };
    Ok(Arc::new(config))
}

const LOOPBACK: &str = "127.0.0.1";

/// To loopback, where `host` is expected.
async fn stream(config: Arc<ClientConfig>, host: &str, port: u16) -> Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect((LOOPBACK, port)).await?;
    let name = ServerName::try_from(host.to_owned())?;
    TlsConnector::from(config).connect(name, tcp).await.context("TLS handshake")
}

/// Connects to the message port as node `claimed`. An HTTP refusal is given as (status, body).
pub async fn connect(
    config: Arc<ClientConfig>,
    port: u16,
    claimed: &str,
) -> Result<Result<Socket, (u16, String)>> {
    let tls = stream(config, LOOPBACK, port).await?;
    let request = http::Request::builder()
        .uri(format!("wss://127.0.0.1:{port}/project/{claimed}/events"))
        .header("Host", format!("127.0.0.1:{port}"))
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key())
        .header("Node_id", claimed)
        .header("Project_id", "project")
        .header("Connectionuse", "msg")
        .body(())?;
    // The peer's own limits must not hide the server's.
    let limits = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
    match tokio_tungstenite::client_async_with_config(request, tls, Some(limits)).await {
        Ok((socket, _)) => Ok(Ok(socket)),
        Err(WebSocketError::Http(response)) => {
            let body = response.body().as_ref().map(|body| String::from_utf8_lossy(body).into_owned());
            Ok(Err((response.status().as_u16(), body.unwrap_or_default())))
        }
        Err(error) => Err(error).context("WebSocket upgrade"),
    }
}

/// Sends one text frame.
pub async fn send(socket: &mut Socket, text: &str) -> Result<()> {
    Ok(socket.send(Frame::text(text.to_owned())).await?)
}

/// The next text frame whose parent is `id`.
pub async fn answer(socket: &mut Socket, id: &str) -> Result<serde_json::Value> {
    while let Some(frame) = socket.next().await {
        if let Frame::Text(text) = frame? {
            let value: serde_json::Value = serde_json::from_str(&text)?;
            if value["header"]["parent_msg_id"] == id {
                return Ok(value);
            }
        }
    }
    anyhow::bail!("the connection ended without an answer to {id}")
}

/// The code and reason the server closes with; (0, "") if it just goes.
pub async fn closing(socket: &mut Socket) -> (u16, String) {
    while let Some(frame) = socket.next().await {
        match frame {
            Ok(Frame::Close(Some(close))) => return (close.code.into(), close.reason.to_string()),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    (0, String::new())
}

/// GET on the registration port: (status, body).
pub async fn get(
    config: Arc<ClientConfig>,
    port: u16,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<(u16, Vec<u8>)> {
    get_from(config, LOOPBACK, port, path, headers, body).await
}

/// GET on a port of loopback under another name, which the certificate must have: (status, body).
pub async fn get_from(
    config: Arc<ClientConfig>,
    host: &str,
    port: u16,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<(u16, Vec<u8>)> {
    let tls = stream(config, host, port).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(tls)).await?;
    let connection = tokio::spawn(connection);
    let mut request = http::Request::get(path).header("Host", format!("{host}:{port}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes().to_vec();
    connection.abort();
    Ok((status, body))
}
