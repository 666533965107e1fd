//! KubeEdge's stream tunnel, the edge's end (docs/protocol/transport.md 6): for clouds that reach this node's Node API by it.
//!
//! ```text
//! cloud:10004 <--mutual TLS, WebSocket-- tunnel --unix socket--> Node API
//! ```
//!
//! Promises: the cloud is verified by the node's CAs, which KubeEdge's edges do not do; a connection nobody reads ends alone; the
//! tunnel is asked for again, less and less often, until it is up.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::errors::describe;
use daemon::rooms::Work;
use message::NodeName;
use pki::files;
use pki::tls::LiveClient;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

/// First and longest pause before the tunnel is asked for again.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A tunnel that was up for so long did not fail at once.
const LASTED: Duration = Duration::from_secs(60);

/// Checked configuration (`modules.edgeStream`).
#[derive(Clone, Debug)]
pub struct Settings {
    pub node: NodeName,
    /// An address of the node, as it tells the cloud; may be empty.
    pub address: String,
    /// `host:port` of the cloud's tunnel server.
    pub server: String,
    /// CAs by which the cloud is verified, and the node's certificate and key; read for each attempt, as they are renewed.
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// For connecting and all handshakes.
    pub timeout: Duration,
    /// The Node API's socket.
    pub node_api: PathBuf,
}

#[derive(Debug, thiserror::Error)]
enum UpError {
    #[error("reading tlsTunnelCAFile, tlsTunnelCertFile and tlsTunnelPrivateKeyFile")]
    Files(#[from] files::FileError),
    #[error("using them")]
    Tls(#[from] pki::tls::TlsError),
    #[error("{0:?} is not host:port")]
    Server(String),
    #[error("reaching {server}")]
    Connect { server: String, source: std::io::Error },
    #[error(transparent)]
    Dial(#[from] tunnel::DialError),
    #[error("no tunnel within {0:?}")]
    Late(Duration),
    #[error("reading the certificate")]
    Read(#[source] std::io::Error),
}

/// Keeps a tunnel up until `stop`.
pub fn run(settings: Settings, stop: CancellationToken) -> Work<Infallible> {
    Box::pin(async move {
        let (mut backoff, mut is_told) = (Backoff::new(AGAIN.0, AGAIN.1), false);
        loop {
            let began = Instant::now();
            let attempt = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                attempt = up(&settings) => attempt,
            };
            match attempt {
                Ok(stream) => {
                    tracing::info!(peer = settings.server, "tunnel up");
                    is_told = false;
                    let socket = settings.node_api.clone();
                    let connect = move || UnixStream::connect(socket.clone());
                    let over = tunnel::run_edge(stream, connect, stop.clone()).await;
                    tracing::info!(reason = describe(&over), "tunnel over");
                }
                // The first failure is news; the rest would fill a disk.
                Err(error) if !is_told => {
                    is_told = true;
                    tracing::warn!(
                        peer = settings.server,
                        error = describe(&error),
                        "no tunnel, trying until there is"
                    );
                }
                Err(error) => tracing::debug!(peer = settings.server, error = describe(&error), "no tunnel"),
            }
            if began.elapsed() >= LASTED {
                backoff = Backoff::new(AGAIN.0, AGAIN.1);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
    })
}

type Tunnel = hyper_util::rt::TokioIo<hyper::upgrade::Upgraded>;

async fn up(settings: &Settings) -> Result<Tunnel, UpError> {
    let asked = tokio::time::timeout(settings.timeout, ask(settings)).await;
    asked.unwrap_or(Err(UpError::Late(settings.timeout)))
}

async fn ask(settings: &Settings) -> Result<Tunnel, UpError> {
    let wrong = || UpError::Server(settings.server.clone());
    let (host, _) = settings.server.rsplit_once(':').ok_or_else(wrong)?;
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(|_| wrong())?;
    let tls = tls(settings).await?;
    let connect = |source| UpError::Connect { server: settings.server.clone(), source };
    let tcp = TcpStream::connect(&settings.server).await.map_err(connect)?;
    let stream = tls.connect(name, tcp).await.map_err(connect)?;
    let node = settings.node.as_str();
    Ok(tunnel::dial(stream, &settings.server, node, &settings.address, settings.timeout).await?)
}

async fn tls(settings: &Settings) -> Result<TlsConnector, UpError> {
    let (ca, certificate, key) = (settings.ca.clone(), settings.certificate.clone(), settings.key.clone());
    let read = move || {
        Ok(files::read_bundle(&ca).and_then(|trust| Ok((trust, files::read_identity(&certificate, &key)?))))
    };
    let (trust, identity) = daemon::blocking(read).await.map_err(UpError::Read)??;
    Ok(TlsConnector::from(link::alpn::offering(
        &LiveClient::new(&trust, Some(&identity))?.config(),
        link::alpn::TUNNEL,
    )))
}
