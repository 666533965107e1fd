//! Dials the cloud: over QUIC where it is configured, over WebSocket where it is not or does not answer.

use std::sync::Arc;
use std::time::Duration;

use link::{DialError, Dialer, Link, Target, quic};

use super::backoff::Failure;
use super::{Settings, describe};

/// UDP says nothing when a peer dies: a packet this often finds out. It is as small as a packet gets.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// QUIC connections that see nothing for this many of them end.
const IDLE_BEATS: u32 = 3;

/// Opens connections with one TLS identity.
pub(super) struct Connector {
    websocket: Option<(Dialer, Target)>,
    quic: Option<(quic::Dialer, Target)>,
}

impl Connector {
    pub(crate) fn build(settings: &Settings, tls: Arc<rustls::ClientConfig>) -> Result<Connector, DialError> {
        let servers = &settings.servers;
        let target = |address: &String| Target {
            address: address.clone(),
            project_id: settings.project_id.clone(),
            node: settings.node.to_string(),
            timeout: settings.handshake_timeout,
            offer: servers.offer,
        };
        let quic = match &servers.quic {
            None => None,
            Some(address) => {
                let keep_alive = settings.heartbeat.min(KEEP_ALIVE);
                let dialer = quic::Dialer::bind(tls.clone(), keep_alive, keep_alive * IDLE_BEATS)?;
                Some((dialer, target(address)))
            }
        };
        let websocket = servers.websocket.as_ref().map(|address| (Dialer::new(tls), target(address)));
        Ok(Connector { websocket, quic })
    }

    /// A connection and the address it goes to.
    pub(crate) async fn dial(&self) -> Result<(Link, &str), DialError> {
        let error = match &self.quic {
            None => None,
            Some((dialer, target)) => match dialer.dial(target).await {
                Ok(link) => return Ok((link, &target.address)),
                Err(error) => Some(error),
            },
        };
        match (&self.websocket, error) {
            (Some((dialer, target)), error) => {
                if let Some(error) = error {
                    let (peer, error) = (&target.address, describe(&error));
                    tracing::debug!(peer, error, "QUIC did not connect, dialling WebSocket");
                }
                dialer.dial(target).await.map(|link| (link, target.address.as_str()))
            }
            (None, Some(error)) => Err(error),
            (None, None) => Err(DialError::BadHost { host: String::new() }),
        }
    }
}

/// What a failed attempt says about the next.
pub(super) fn failure(error: &DialError) -> Failure {
    if let Some(wait) = error.retry_after() {
        return Failure::Asked(wait);
    }
    match error {
        DialError::Connect { source, .. } if source.kind() == std::io::ErrorKind::ConnectionRefused => {
            Failure::NobodyListens
        }
        _ => Failure::Other,
    }
}
