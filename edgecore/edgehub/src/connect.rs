//! Dials the cloud: over QUIC where it is configured, over WebSocket where it is not or does not answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use link::{DialError, Dialer, Link, Target, Way, quic};

use super::backoff::Failure;
use super::{Order, Settings, describe};

/// UDP says nothing when a peer dies: a packet this often finds out. It is as small as a packet gets.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// QUIC connections that see nothing for this many of them end.
const IDLE_BEATS: u32 = 3;
/// A server that has not answered by then is no longer waited for alone: the next one is dialled as well, and the first that
/// answers counts.
const NEXT: Duration = Duration::from_secs(2);

/// Opens connections with one TLS identity.
pub(super) struct Connector {
    websocket: Vec<(Dialer, Target)>,
    order: Order,
    /// The server that is tried first the next time.
    first: AtomicUsize,
    quic: Option<(quic::Dialer, Target)>,
}

impl Connector {
    pub(crate) fn build(settings: &Settings, tls: Arc<rustls::ClientConfig>) -> Result<Connector, DialError> {
        let servers = &settings.servers;
        let target = |address: &String, way: Way| Target {
            address: address.clone(),
            project_id: settings.project_id.clone(),
            node: settings.node.to_string(),
            timeout: settings.handshake_timeout,
            offer: servers.offer,
            way,
        };
        let quic = match &servers.quic {
            None => None,
            Some(address) => {
                let keep_alive = settings.heartbeat.min(KEEP_ALIVE);
                let dialer = quic::Dialer::bind(tls.clone(), keep_alive, keep_alive * IDLE_BEATS)?;
                Some((dialer, target(address, Way::Straight)))
            }
        };
        let websocket = servers.websocket.iter();
        let websocket =
            websocket.map(|address| (Dialer::new(tls.clone()), target(address, servers.way.clone())));
        Ok(Connector {
            websocket: websocket.collect(),
            order: servers.order,
            first: AtomicUsize::new(0),
            quic,
        })
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
        match (self.websocket.is_empty(), error) {
            (false, error) => {
                if let Some(error) = error {
                    tracing::debug!(error = describe(&error), "QUIC did not connect, dialling WebSocket");
                }
                self.any().await
            }
            (true, Some(error)) => Err(error),
            (true, None) => Err(DialError::BadHost { host: String::new() }),
        }
    }

    /// The servers in their order, the next one as soon as the one before has failed or takes long. If all fail, the first
    /// one's error is told: it says what the operator has to look at.
    async fn any(&self) -> Result<(Link, &str), DialError> {
        let count = self.websocket.len();
        let first = match self.order {
            Order::Priority => 0,
            Order::RoundRobin => self.first.fetch_add(1, Ordering::Relaxed) % count,
        };
        let (before, from) = self.websocket.split_at(first);
        let mut left: VecDeque<_> = from.iter().chain(before).collect();
        let mut dialling = FuturesUnordered::new();
        let mut told: Option<DialError> = None;
        loop {
            if let Some((dialer, target)) = left.pop_front() {
                dialling.push(async move { (target, dialer.dial(target).await) });
            }
            let is_last = left.is_empty();
            let ended = tokio::select! {
                ended = dialling.next() => ended,
                () = tokio::time::sleep(NEXT), if !is_last => continue,
            };
            match ended {
                Some((target, Ok(link))) => return Ok((link, target.address.as_str())),
                Some((target, Err(error))) => {
                    if count > 1 {
                        let (peer, error) = (&target.address, describe(&error));
                        tracing::info!(peer, error, "this CloudCore does not answer, another one is tried");
                    }
                    let asked = told.as_ref().is_some_and(|told| told.retry_after().is_some());
                    if told.is_none() || (error.retry_after().is_some() && !asked) {
                        told = Some(error);
                    }
                }
                // All have failed.
                None => return Err(told.unwrap_or(DialError::BadHost { host: String::new() })),
            }
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
