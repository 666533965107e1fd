//! The edge's side of a new WebSocket connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::{Request, header};
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Error as WebSocketError;
use tokio_tungstenite::tungstenite::error::{ProtocolError, SubProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::{Response, generate_key};

use crate::accept::RETRY_AFTER_MS;
use crate::connection::{Stream, limits, split};
use crate::way::Way;
use crate::{DialError, Link, USE_MESSAGES, frames};

/// Where and as whom to connect.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port`; an IPv6 host in brackets.
    pub address: String,
    pub project_id: String,
    pub node: String,
    /// Time for connecting and all handshakes.
    pub timeout: Duration,
    pub offer: Offer,
    /// How the server is reached; QUIC is reached straight only.
    pub way: Way,
}

/// Which dialects the edge offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offer {
    /// The native dialect, and KubeEdge's where the server does not know it.
    #[default]
    Auto,
    /// KubeEdge's only.
    KubeEdge,
}

/// Largest message an edge reads, in bytes: lists of a MetaServer watch are the largest a cloud sends.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// A server that did not know the native dialect is asked again at every so many connections: it may be upgraded.
const ASK_AGAIN: u32 = 8;

/// Opens connections with one TLS identity.
#[derive(Clone)]
pub struct Dialer {
    tls: TlsConnector,
    /// Connections to go without the native dialect.
    without_native: Arc<AtomicU32>,
}

impl Dialer {
    pub fn new(config: Arc<rustls::ClientConfig>) -> Dialer {
        Dialer { tls: TlsConnector::from(config), without_native: Arc::default() }
    }

    /// # Errors
    /// [`DialError`] names the address and the step that failed or took too long; a refusal has the server's status
    /// and text.
    pub async fn dial(&self, target: &Target) -> Result<Link, DialError> {
        let timed_out = |_| DialError::TimedOut { address: target.address.clone(), after: target.timeout };
        tokio::time::timeout(target.timeout, self.negotiate(target)).await.map_err(timed_out)?
    }

    async fn negotiate(&self, target: &Target) -> Result<Link, DialError> {
        let left = self.without_native.load(Ordering::Relaxed);
        if target.offer == Offer::KubeEdge || left > 0 {
            self.without_native.store(left.saturating_sub(1), Ordering::Relaxed);
            return self.connect(target, false).await;
        }
        match self.connect(target, true).await {
            Err(DialError::Upgrade { source, .. }) if knows_no_subprotocol(&source) => {
                self.without_native.store(ASK_AGAIN, Ordering::Relaxed);
                self.connect(target, false).await
            }
            other => other,
        }
    }

    async fn connect(&self, target: &Target, native: bool) -> Result<Link, DialError> {
        let address = || target.address.clone();
        let host = host_of(&target.address);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| DialError::BadHost { host: host.to_owned() })?;
        let tcp = target
            .way
            .connect(&target.address)
            .await
            .map_err(|source| DialError::Connect { address: address(), source })?;
        let _ = tcp.set_nodelay(true);
        let tls = self
            .tls
            .connect(name, tcp)
            .await
            .map_err(|source| DialError::Tls { address: address(), source })?;
        upgrade(Box::new(tls), target, native).await
    }
}

fn knows_no_subprotocol(error: &WebSocketError) -> bool {
    matches!(
        error,
        WebSocketError::Protocol(ProtocolError::SecWebSocketSubProtocolError(
            SubProtocolError::NoSubProtocol
        ))
    )
}

/// Upgrades any byte stream.
pub(crate) async fn upgrade(stream: Stream, target: &Target, native: bool) -> Result<Link, DialError> {
    let upgrade_error =
        |source| DialError::Upgrade { address: target.address.clone(), source: Box::new(source) };
    let mut request = Request::builder()
        .uri(format!("wss://{}/{}/{}/events", target.address, target.project_id, target.node))
        .header("Host", &target.address)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key())
        .header("Node_id", &target.node)
        .header("Project_id", &target.project_id)
        .header("Connectionuse", USE_MESSAGES);
    if native {
        request = request.header(header::SEC_WEBSOCKET_PROTOCOL, native::NAME);
    }
    let request = request.body(()).map_err(|source| upgrade_error(source.into()))?;
    let limits = limits(MAX_MESSAGE);
    match tokio_tungstenite::client_async_with_config(request, stream, Some(limits)).await {
        Ok((socket, _)) if native => {
            let (sender, receiver) = frames::split(socket, None);
            Ok(Link::Native(sender, receiver))
        }
        Ok((socket, _)) => {
            let (sender, receiver) = split(socket, MAX_MESSAGE, None);
            Ok(Link::KubeEdge(sender, receiver))
        }
        Err(WebSocketError::Http(response)) => Err(refused(target, &response)),
        Err(error) => Err(upgrade_error(error)),
    }
}

fn refused(target: &Target, response: &Response) -> DialError {
    let body = response.body().as_deref().unwrap_or_default();
    let number = |name: &str| response.headers().get(name)?.to_str().ok()?.parse::<u64>().ok();
    let retry_after = number(RETRY_AFTER_MS)
        .map(Duration::from_millis)
        .or_else(|| number(header::RETRY_AFTER.as_str()).map(Duration::from_secs));
    DialError::Refused {
        address: target.address.clone(),
        status: response.status().as_u16(),
        text: String::from_utf8_lossy(body).trim().chars().take(512).collect(),
        retry_after,
    }
}

/// The host of `host:port`, without the brackets of an IPv6 address.
pub fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn the_host_of_an_address_has_no_port_and_no_brackets() {
        assert_eq!(host_of("10.0.0.5:10000"), "10.0.0.5");
        assert_eq!(host_of("[::1]:10000"), "::1");
        assert_eq!(host_of("cloud.example:10000"), "cloud.example");
    }
}
