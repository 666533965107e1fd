//! The certificate of the TLS port, where the node asks the cluster for it (`serverTLSBootstrap`). Source:
//! docs/protocol/edge-runtime.md 7.2.
//!
//! ```text
//! none | other addresses | 0.7 .. 0.9 of its life --> request: a signing request, by way of the cloud --> approved, signed
//!                                                                                                            |
//! TLS port <-- shown: certificate and CAs of clients <-- files of the node <----------------------------------'
//! ```
//!
//! Owns the two files of the certificate, and that of the cluster's CAs. Promises: what is there is shown until there is a
//! newer one, expired or not; nobody is served before there are CAs for clients; without a link nothing is asked, and nothing
//! is lost.

mod kept;
mod plan;
mod request;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use message::NodeName;
use pki::tls::LiveServer;
use rand::RngExt as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::TlsPort;
use super::tls::{self, Shown};
use kept::Held;
use metamanager::{Cloud, LinkState};
use nodebase::addresses::Addresses;
use nodebase::clock::Clock;
use plan::Retry;
use podmodel::errors::chain;

/// Waits are cut into pieces: the clock of a node without a battery jumps when the time is set, and files are replaced.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Seconds after which a certificate is asked for again that is not for all addresses of the node, because its object had others
/// (`modules.cloudStream.nodeAddress` of CloudCore).
const PARTIAL: i64 = 24 * 3600;
/// How often the cloud is asked for the cluster's CAs, which are replaced once in years.
const CAS: Duration = Duration::from_secs(24 * 3600);

/// Where the certificate is kept, and where it is shown.
pub(super) struct Certificate {
    files: kept::Files,
    /// `None`: the cluster's CAs count.
    client_ca: Option<PathBuf>,
    shown: watch::Sender<Option<TlsAcceptor>>,
}

/// What the certificate is about, and whom the node asks for it.
pub(super) struct Deps {
    pub node: NodeName,
    pub clock: Clock,
    pub cloud: Cloud,
    pub addresses: Arc<Addresses>,
}

impl Certificate {
    pub(super) fn of(port: &TlsPort) -> (Certificate, Shown) {
        let (shown, seen) = watch::channel(None);
        let files = kept::Files { certificate: port.certificate.clone(), key: port.key.clone() };
        (Certificate { files, client_ca: port.client_ca.clone(), shown }, seen)
    }

    /// Keeps it young until `stop`.
    pub(super) fn keep(self, deps: Deps, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = Keeper::new(self, deps).work() => {}
            }
        })
    }
}

struct Keeper {
    certificate: Certificate,
    deps: Deps,
    live: Option<LiveServer>,
    held: Option<Held>,
    /// When the certificate is due to be renewed, in Unix seconds.
    renewal: i64,
    trust: Option<pki::Bundle>,
    /// When the cloud is to be asked for the cluster's CAs.
    cas_due: Instant,
    cas_trouble: Retry,
    /// When the cluster may be asked for a certificate.
    request_due: Instant,
    request_trouble: Retry,
}

impl Keeper {
    fn new(certificate: Certificate, deps: Deps) -> Keeper {
        let now = Instant::now();
        Keeper {
            certificate,
            deps,
            live: None,
            held: None,
            renewal: 0,
            trust: None,
            cas_due: now,
            cas_trouble: Retry::default(),
            request_due: now,
            request_trouble: Retry::default(),
        }
    }

    async fn work(mut self) {
        match self.certificate.files.load().await {
            Ok(held) => self.hold(held),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the Node API's certificate cannot be used, another is asked for");
            }
        }
        let mut link = self.deps.cloud.link();
        let mut addresses = self.deps.addresses.changes();
        loop {
            self.read_cas().await;
            self.show();
            let is_connected = *link.borrow_and_update() == LinkState::Connected;
            addresses.borrow_and_update();
            if is_connected {
                self.ask_for_cas().await;
                self.show();
                tokio::select! {
                    biased;
                    // What was asked for is of no use any more.
                    Ok(()) = addresses.changed() => continue,
                    () = self.ask() => {}
                }
                self.show();
            }
            let wait = self.wait(is_connected);
            tokio::select! {
                biased;
                changed = link.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                }
                Ok(()) = addresses.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Names and addresses of this node, as its object has them.
    fn hosts(&self) -> Vec<String> {
        let mut hosts = vec![self.deps.node.to_string()];
        hosts.extend(self.deps.addresses.all());
        hosts
    }

    fn hold(&mut self, held: Option<Held>) {
        self.renewal = held.as_ref().map_or(0, |held| {
            let renewal = plan::renewal(held.validity, rand::rng().random());
            // The node's object may name more by then.
            if held.is_partial() { renewal.min(self.now() + PARTIAL) } else { renewal }
        });
        self.held = held;
    }

    fn now(&self) -> i64 {
        self.deps.clock.now().as_second()
    }

    /// Time until something is due.
    fn wait(&self, is_connected: bool) -> Duration {
        if !is_connected {
            return LONGEST_WAIT;
        }
        let mut due = if self.is_due() { self.request_due } else { Instant::now() + LONGEST_WAIT };
        if !self.is_due() {
            let left = u64::try_from(self.renewal.saturating_sub(self.now())).unwrap_or(0);
            due = due.min(Instant::now() + Duration::from_secs(left.max(1)));
        }
        if self.certificate.client_ca.is_none() {
            due = due.min(self.cas_due);
        }
        due.saturating_duration_since(Instant::now()).min(LONGEST_WAIT)
    }

    /// True if there is no certificate for what the node is called now, or it is to be renewed.
    fn is_due(&self) -> bool {
        let hosts = self.hosts();
        self.held.as_ref().is_none_or(|held| !held.is_for(&hosts)) || self.renewal <= self.now()
    }

    /// CAs of files are read anew each time: somebody may have replaced them.
    async fn read_cas(&mut self) {
        let read = match &self.certificate.client_ca {
            Some(path) => kept::read_cas(path.clone()).await,
            None if self.trust.is_none() => self.certificate.files.cluster_cas().await,
            None => return,
        };
        match read {
            Ok(Some(trust)) => self.trust = Some(trust),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(error = %chain(&error), "CAs of the Node API's clients cannot be read");
            }
        }
    }

    async fn ask_for_cas(&mut self) {
        if self.certificate.client_ca.is_some() || self.cas_due > Instant::now() {
            return;
        }
        let asked = request::cluster_cas(&self.deps.cloud).await;
        let wait = match asked {
            Ok(trust) => {
                if self.trust.as_ref() != Some(&trust) {
                    self.keep_cas(trust).await;
                }
                self.cas_trouble.over();
                CAS
            }
            Err(error) => {
                let (wait, is_first) = self.cas_trouble.failed();
                if is_first && self.trust.is_none() {
                    tracing::warn!(error = %chain(&error), "the Node API's port serves nobody: whose clients' certificates count is not known; name authentication.x509.clientCAFile, or wait for the cloud to tell");
                }
                wait
            }
        };
        self.cas_due = Instant::now() + wait;
    }

    async fn keep_cas(&mut self, trust: pki::Bundle) {
        if let Err(error) = self.certificate.files.write_cas(trust.clone()).await {
            tracing::warn!(error = %chain(&error), "the cluster's CAs are not kept for the next start");
        }
        self.trust = Some(trust);
    }

    /// Asks for a certificate if one is due, and waits until it is there.
    async fn ask(&mut self) {
        if !self.is_due() || self.request_due > Instant::now() {
            return;
        }
        match self.obtain().await {
            Ok(held) => {
                tracing::info!(until = held.validity.1, "the Node API has a new certificate");
                self.request_trouble.over();
                // Should the signer give less than was asked for, it is not asked all the time.
                self.request_due = Instant::now() + LONGEST_WAIT;
                self.hold(Some(held));
            }
            Err(error) => {
                let (wait, is_first) = self.request_trouble.failed();
                self.request_due = Instant::now() + wait;
                let (error, wait_ms) = (chain(&error), wait.as_millis() as u64);
                match is_first {
                    true => {
                        tracing::warn!(error, wait_ms, "no new certificate for the Node API, trying again")
                    }
                    false => tracing::debug!(error, wait_ms, "no new certificate for the Node API"),
                }
            }
        }
    }

    async fn obtain(&self) -> Result<Held, request::AskError> {
        let (cloud, node, hosts) = (&self.deps.cloud, self.deps.node.as_str(), self.hosts());
        let known = request::known(cloud, node, &hosts).await?;
        let identity = request::obtain(cloud, node, &known).await?;
        self.certificate.files.write(identity, hosts).await.map_err(request::AskError::Keep)
    }

    /// Shows what there is, from the next handshake on.
    fn show(&mut self) {
        let (Some(held), Some(trust)) = (&self.held, &self.trust) else { return };
        let changed = match &self.live {
            Some(live) => live.change(&held.identity, trust),
            None => LiveServer::new(&held.identity, trust).map(|live| {
                self.certificate.shown.send_replace(Some(tls::acceptor(&live)));
                self.live = Some(live);
            }),
        };
        if let Err(error) = changed {
            tracing::warn!(error = %chain(&error), "the Node API cannot use its certificate and the CAs of its clients");
        }
    }
}
