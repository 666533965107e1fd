//! The edge's side of a new connection.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use crate::connection::{Stream, limits, split};
use crate::{DialError, Receiver, Sender, USE_MESSAGES};

/// Where and as whom to connect.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port`; an IPv6 host in brackets.
    pub address: String,
    pub project_id: String,
    pub node: String,
    /// Time for connecting and all handshakes.
    pub timeout: Duration,
}

/// Opens connections with one TLS identity.
#[derive(Clone)]
pub struct Dialer {
    tls: TlsConnector,
}

impl Dialer {
    pub fn new(config: Arc<rustls::ClientConfig>) -> Dialer {
        Dialer { tls: TlsConnector::from(config) }
    }

    pub async fn dial(&self, target: &Target) -> Result<(Sender, Receiver), DialError> {
        let timed_out = |_| DialError::TimedOut { address: target.address.clone(), after: target.timeout };
        tokio::time::timeout(target.timeout, self.connect(target)).await.map_err(timed_out)?
    }

    async fn connect(&self, target: &Target) -> Result<(Sender, Receiver), DialError> {
        let address = || target.address.clone();
        let host = host_of(&target.address);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| DialError::BadHost { host: host.to_owned() })?;
        let tcp = TcpStream::connect(&target.address)
            .await
            .map_err(|source| DialError::Connect { address: address(), source })?;
        let _ = tcp.set_nodelay(true);
        let tls = self
            .tls
            .connect(name, tcp)
            .await
            .map_err(|source| DialError::Tls { address: address(), source })?;
        upgrade(Box::new(tls), target).await
    }
}

/// Upgrades any byte stream.
pub(crate) async fn upgrade(stream: Stream, target: &Target) -> Result<(Sender, Receiver), DialError> {
    let upgrade_error =
        |source| DialError::Upgrade { address: target.address.clone(), source: Box::new(source) };
    let request = Request::builder()
        .uri(format!("wss://{}/{}/{}/events", target.address, target.project_id, target.node))
        .header("Host", &target.address)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key())
        .header("Node_id", &target.node)
        .header("Project_id", &target.project_id)
        .header("Connectionuse", USE_MESSAGES)
        .body(())
        .map_err(|source| upgrade_error(source.into()))?;
    let (socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(limits()))
        .await
        .map_err(upgrade_error)?;
    Ok(split(socket))
}

fn host_of(address: &str) -> &str {
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
