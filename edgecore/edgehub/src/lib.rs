//! EdgeHub: gets this node its certificate, keeps the link to the cloud, and pumps messages both ways.
//!
//! ```text
//!            no certificate                 upgraded
//! [enroll] ----------------> [connect] --------------> [session]
//!     ^ refused: the process ends  ^   full-jitter backoff  | closed, silent, stalled
//!                                  +------------------------+
//! ```
//!
//! `rotate` exchanges the certificate in its last third and follows the CAs to trust; the link stays up meanwhile, the
//! next dial uses what is new.
//!
//! Owns the connection, the certificate files and which upstream messages are in flight. A message of the outbox is
//! removed only when the cloud has answered it; an object is acknowledged only after MetaManager committed it.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait for nobody else"))]

mod backoff;
mod commit;
mod connect;
mod credentials;
mod enroll;
pub mod exchange;
mod hold;
mod https;
pub mod inflight;
mod metrics;
mod rotate;
mod session;
mod uplink;

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use daemon::errors::describe;
use daemon::health::{Beat, Health, Unready};
use daemon::rooms::Work;
use link::{DialError, Offer, Way};
use message::NodeName;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use backoff::{Backoff, Failure};
use connect::Connector;
pub use enroll::{EnrollError, Enrollment, Secret};
use metamanager::cloud::Call;
use metamanager::intake::Intake;
use metamanager::{LinkState, Outbox};
pub use metrics::Metrics;
pub use rotate::Renewal;
use rotate::Rotation;
use session::Session;
pub use uplink::{Asked, NoStream, Uplink};

/// Checked configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node: NodeName,
    pub project_id: String,
    pub servers: Servers,
    pub handshake_timeout: Duration,
    pub heartbeat: Duration,
    pub enrollment: Enrollment,
    pub renewal: Renewal,
    /// The socket of the Node API, to which the cloud's streams lead; `None`: this node takes none.
    pub node_api: Option<PathBuf>,
}

/// Where the cloud listens. QUIC is tried first where both are given.
#[derive(Clone, Debug, Default)]
pub struct Servers {
    /// `host:port` of each WebSocket server; none: WebSocket is not used.
    pub websocket: Vec<String>,
    /// Which of them is tried first.
    pub order: Order,
    /// `host:port` of the QUIC server.
    pub quic: Option<String>,
    /// Which dialects to offer over WebSocket.
    pub offer: Offer,
    /// How WebSocket and registration servers are reached.
    pub way: Way,
}

/// Which of several servers is tried first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The first of the list, always.
    #[default]
    Priority,
    /// Another one at each connection, so that nodes spread over all.
    RoundRobin,
}

/// The rooms the hub feeds and serves.
pub struct Deps {
    pub intake: Intake,
    pub outbox: Outbox,
    pub calls: mpsc::Receiver<Call>,
    /// Who wants streams to the API server.
    pub streams: mpsc::Receiver<Asked>,
    pub link: watch::Sender<LinkState>,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("this node has no certificate and cannot get one")]
    Enroll(#[source] EnrollError),
    #[error("TLS with this node's certificate")]
    Tls(#[source] pki::tls::TlsError),
    #[error("opening the QUIC socket")]
    Quic(#[source] DialError),
    #[error("keeping this node's certificate young failed")]
    Rotation(#[source] tokio::task::JoinError),
    #[error("keeping this node's certificate young ended without being asked to")]
    RotationEnded,
}

pub struct EdgeHub {
    settings: Settings,
    deps: Deps,
    metrics: Metrics,
    signs: Signs,
    /// The status of the last attempt, if the cloud refused it.
    refused: Option<u16>,
    /// Dropped when this node has a certificate: without a link EdgeCore is ready all the same.
    unready: Option<Unready>,
}

/// How the hub shows that it moves.
#[derive(Clone)]
struct Signs {
    /// The session.
    link: Beat,
    /// What received objects wait for.
    commits: Beat,
}

impl Signs {
    fn to(health: &Health) -> Signs {
        Signs { link: health.beat("edgehub"), commits: health.beat("metamanager") }
    }
}

impl EdgeHub {
    pub fn build(settings: Settings, deps: Deps) -> EdgeHub {
        EdgeHub {
            settings,
            deps,
            metrics: Metrics::default(),
            signs: Signs::to(&Health::default()),
            refused: None,
            unready: None,
        }
    }

    /// The same, seen by probes and counted.
    pub fn observed(settings: Settings, deps: Deps, health: &Health, metrics: Metrics) -> EdgeHub {
        let unready = Some(health.wait_for("edgehub"));
        EdgeHub { metrics, signs: Signs::to(health), unready, ..EdgeHub::build(settings, deps) }
    }

    /// Enrols if need be, then keeps a session to the cloud until stopped.
    pub fn run(self, stop: CancellationToken) -> Work<RunError> {
        Box::pin(self.work(stop))
    }

    async fn work(mut self, stop: CancellationToken) -> Result<(), RunError> {
        let enrolled = tokio::select! {
            biased;
            _ = stop.cancelled() => return Ok(()),
            enrolled = enroll::obtain(&self.settings.node, &self.settings.enrollment) => enrolled,
        };
        let credentials = enrolled.map_err(RunError::Enroll)?;
        let live = credentials.live().map_err(RunError::Tls)?;
        let connector = Connector::build(&self.settings, live.config()).map_err(RunError::Quic)?;
        if let Some(unready) = self.unready.take() {
            unready.ready();
        }
        let rotation = Rotation {
            node: self.settings.node.clone(),
            enrollment: self.settings.enrollment.clone(),
            renewal: self.settings.renewal.clone(),
            link: self.deps.link.subscribe(),
            credentials,
            live,
        };
        let rotating = AbortOnDropHandle::new(tokio::spawn(rotation.run(stop.clone())));
        tokio::select! {
            biased;
            _ = stop.cancelled() => Ok(()),
            never = self.keep_connected(&connector, &stop) => match never {},
            // A node whose certificate nobody renews is lost when it ends: better to start again now.
            ended = rotating => Err(ended.map_or_else(RunError::Rotation, |()| RunError::RotationEnded)),
        }
    }

    async fn keep_connected(&mut self, connector: &Connector, stop: &CancellationToken) -> Infallible {
        let mut backoff = Backoff::default();
        loop {
            let failure = self.connect_once(connector, &mut backoff, stop).await;
            tokio::time::sleep(backoff.next(failure, Instant::now())).await;
        }
    }

    /// One connection, from dialling to its end. Says what the end tells about the next attempt.
    async fn connect_once(
        &mut self,
        connector: &Connector,
        backoff: &mut Backoff,
        stop: &CancellationToken,
    ) -> Failure {
        let (link, peer) = match connector.dial().await {
            Ok(connected) => connected,
            Err(error) => {
                self.metrics.failed();
                let (failure, text) = (connect::failure(&error), describe(&error));
                // The first failure of an outage is news, and that the cloud refuses this node; the rest would fill a disk.
                let status = error.status();
                let is_news = backoff.failures() == 0 || self.refused != status;
                self.refused = status;
                match is_news {
                    true => tracing::warn!(error = text, "cloud not reachable, trying again"),
                    false => {
                        tracing::debug!(attempt = backoff.failures(), error = text, "cloud not reachable")
                    }
                }
                return failure;
            }
        };
        let (dialect, transport) = (link.dialect().as_str(), link.transport().as_str());
        tracing::info!(peer, dialect, transport, "connected to the cloud");
        self.deps.link.send_replace(LinkState::Connected);
        self.metrics.began();
        let began = Instant::now();
        let session = Session {
            node: &self.settings.node,
            heartbeat: self.settings.heartbeat,
            intake: &self.deps.intake,
            outbox: &self.deps.outbox,
            calls: &mut self.deps.calls,
            streams: &mut self.deps.streams,
            node_api: self.settings.node_api.as_deref(),
            stop: stop.clone(),
            metrics: self.metrics.clone(),
            signs: self.signs.clone(),
        };
        let end = session::run(link, session).await;
        self.metrics.ended();
        self.deps.link.send_replace(LinkState::Disconnected);
        backoff.connected(began.elapsed(), end.is_closed_by_cloud());
        tracing::warn!(peer, error = describe(&end), "disconnected from the cloud");
        end.retry_after().map_or(Failure::Other, Failure::Asked)
    }
}

/// Files of this node's certificate.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}
