//! EdgeHub: gets this node its certificate, keeps the link to the cloud, and pumps messages both ways.
//!
//! ```text
//!            no certificate                 upgraded
//! [enroll] ----------------> [connect] --------------> [session]
//!     ^ refused: the process ends  ^   full-jitter backoff  | closed, silent, stalled
//!                                  +------------------------+
//! ```
//!
//! [`rotate`] exchanges the certificate in its last third and follows the CAs to trust; the link stays up meanwhile, the
//! next dial uses what is new.
//!
//! Owns the connection, the certificate files and which upstream messages are in flight. A message of the outbox is
//! removed only when the cloud has answered it; an object is acknowledged only after MetaManager committed it.

mod backoff;
mod commit;
mod credentials;
mod enroll;
mod https;
mod inflight;
mod rotate;
mod session;

use std::path::PathBuf;
use std::time::Duration;

use daemon::errors::describe;
use link::{Dialer, Target};
use message::NodeName;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::metamanager::cloud::Call;
use crate::metamanager::intake::Intake;
use crate::metamanager::{LinkState, Outbox};
use backoff::Backoff;
pub use enroll::{EnrollError, Enrollment, Secret};
pub use rotate::Renewal;
use rotate::Rotation;
use session::Session;

/// Checked configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node: NodeName,
    pub project_id: String,
    /// `host:port` of the WebSocket server.
    pub server: String,
    pub handshake_timeout: Duration,
    pub heartbeat: Duration,
    pub enrollment: Enrollment,
    pub renewal: Renewal,
}

/// The rooms the hub feeds and serves.
pub struct Deps {
    pub intake: Intake,
    pub outbox: Outbox,
    pub calls: mpsc::Receiver<Call>,
    pub link: watch::Sender<LinkState>,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("this node has no certificate and cannot get one")]
    Enroll(#[source] EnrollError),
    #[error("TLS with this node's certificate")]
    Tls(#[source] pki::tls::TlsError),
}

pub struct EdgeHub {
    settings: Settings,
    deps: Deps,
}

impl EdgeHub {
    pub fn build(settings: Settings, deps: Deps) -> EdgeHub {
        EdgeHub { settings, deps }
    }

    /// Enrols if need be, then keeps a session to the cloud until stopped.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), RunError> {
        let enrolled = tokio::select! {
            biased;
            _ = stop.cancelled() => return Ok(()),
            enrolled = enroll::obtain(&self.settings.node, &self.settings.enrollment) => enrolled,
        };
        let credentials = enrolled.map_err(RunError::Enroll)?;
        let live = credentials.live().map_err(RunError::Tls)?;
        let dialer = Dialer::new(live.config());
        let rotation = Rotation {
            node: self.settings.node.clone(),
            enrollment: self.settings.enrollment.clone(),
            renewal: self.settings.renewal.clone(),
            link: self.deps.link.subscribe(),
            credentials,
            live,
        };
        tokio::spawn(rotation.run(stop.clone()));
        let target = Target {
            address: self.settings.server.clone(),
            project_id: self.settings.project_id.clone(),
            node: self.settings.node.to_string(),
            timeout: self.settings.handshake_timeout,
        };
        let mut backoff = Backoff::default();
        loop {
            tokio::select! {
                biased;
                _ = stop.cancelled() => return Ok(()),
                _ = self.connect_once(&dialer, &target, &mut backoff, &stop) => {}
            }
            let wait = backoff.next();
            tokio::select! {
                biased;
                _ = stop.cancelled() => return Ok(()),
                _ = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn connect_once(
        &mut self,
        dialer: &Dialer,
        target: &Target,
        backoff: &mut Backoff,
        stop: &CancellationToken,
    ) {
        let (sender, receiver) = match dialer.dial(target).await {
            Ok(halves) => halves,
            Err(error) => {
                let error = describe(&error);
                // The first failure of an outage is news; the rest would fill a disk.
                match backoff.failures() {
                    0 => tracing::warn!(peer = target.address, error, "cloud not reachable, trying again"),
                    attempt => tracing::debug!(peer = target.address, attempt, error, "cloud not reachable"),
                }
                return;
            }
        };
        tracing::info!(
            peer = target.address,
            dialect = "kubeedge",
            transport = "websocket",
            "connected to the cloud"
        );
        backoff.connected();
        self.deps.link.send_replace(LinkState::Connected);
        let session =
            Session::new(sender, receiver, self.settings.heartbeat, &self.deps.intake, &self.deps.outbox);
        let end = session.run(&mut self.deps.calls, stop.clone()).await;
        self.deps.link.send_replace(LinkState::Disconnected);
        tracing::warn!(peer = target.address, error = describe(&end), "disconnected from the cloud");
    }
}

/// Files of this node's certificate.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}
