//! Listens for edges on WebSocket and QUIC and starts a session for each.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::errors::describe;
use daemon::health::Unready;
use daemon::memory::HeapTrimmer;
use futures_util::future::BoxFuture;
use link::{AcceptError, Accepted, Acceptor, Budget, Hello, Refusal, quic};
use listener::{Handed, Listen};
use message::NodeName;
use pki::EdgeSubject;
use pki::tls::{ClientCertificate, TlsError};
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::Admission;
use super::handshakes::Handshakes;
use super::material::{Material, Trust};
use super::metrics::{Ended, Metrics, Refused};
use super::rate_accounts::{Charge, RateAccounts};
use super::session::{End, Session};
use super::{Registry, Rooms, SessionHandle, Signers};
use crate::refused::{Holder, RefusedNodes};

/// Checked configuration of the hub.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    /// UDP address of the native dialect over QUIC, if it is on.
    pub quic: Option<SocketAddr>,
    /// A session without any sign of life for this long ends.
    pub keepalive: Duration,
    pub node_limit: usize,
    /// Off: a certificate may speak for any node, as KubeEdge allows by default. For migration only.
    pub enforce: bool,
    /// Sessions that may start per second, and at once.
    pub admission: (u32, u32),
    /// Largest message read from a node, in bytes.
    pub max_message: usize,
    /// Bytes of large messages that all sessions together may be reading.
    pub budget: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("listening for edges on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("listening for edges over QUIC")]
    Quic(#[source] quic::BindError),
    #[error("the QUIC endpoint of the edge port was closed")]
    QuicEnded,
    #[error("TLS of the edge port")]
    Tls(#[source] TlsError),
    #[error("starting the handshake threads")]
    Handshakes(#[source] std::io::Error),
}

/// Connections the kernel keeps until they are accepted; it may allow fewer (net.core.somaxconn).
const BACKLOG: u32 = 8192;

/// Time sessions get to say goodbye.
const DRAIN: Duration = Duration::from_secs(3);

pub struct CloudHub {
    settings: Settings,
    /// Bound, not listening: until the hub runs, edges are refused at once instead of waiting in a queue.
    socket: Mutex<Option<TcpSocket>>,
    acceptor: Acceptor,
    quic: Option<quic::Listener>,
    registry: Registry,
    rooms: Arc<Rooms>,
    handshakes: Arc<Handshakes>,
    admission: Arc<Mutex<Admission>>,
    rate_accounts: RateAccounts,
    refused: RefusedNodes,
    trust: watch::Receiver<Arc<Trust>>,
    signers: Signers,
    metrics: Metrics,
    spare: HeapTrimmer,
}

/// A session about to start.
struct AcceptedEdge {
    accepted: Accepted,
    caller: Caller,
    peer: SocketAddr,
}

/// Who speaks, and with whose certificate.
struct Caller {
    node: NodeName,
    holder: Holder,
    /// Fingerprint of the CA that signed it, if it is trusted still.
    signer: Option<String>,
}

impl CloudHub {
    pub async fn build(
        settings: Settings,
        material: &Material,
        rooms: Rooms,
        refused: RefusedNodes,
        rate_accounts: RateAccounts,
        metrics: Metrics,
    ) -> Result<CloudHub, HubError> {
        let ca = material.authority.certificate();
        let tls = pki::tls::server(&material.server, ca, ClientCertificate::Required, &[])
            .map_err(HubError::Tls)?;
        let socket =
            bind(settings.listen).map_err(|source| HubError::Listen { address: settings.listen, source })?;
        let budget = Budget::new(settings.budget);
        let secret = material.authority.key_sec1();
        let handshakes = Handshakes::build(settings.quic.is_some()).map_err(HubError::Handshakes)?;
        let quic = settings.quic.map(|address| {
            handshakes.among_datagrams(|| {
                quic::Listener::bind(address, tls.clone(), settings.keepalive, budget.clone(), secret)
            })
        });
        let (rate, burst) = settings.admission;
        Ok(CloudHub {
            socket: Mutex::new(Some(socket)),
            acceptor: Acceptor::new(tls, settings.max_message, budget),
            rate_accounts,
            quic: quic.transpose().map_err(HubError::Quic)?,
            registry: Registry::default(),
            rooms: Arc::new(rooms),
            handshakes: Arc::new(handshakes),
            admission: Arc::new(Mutex::new(Admission::new(rate, burst))),
            refused,
            trust: material.trust.clone(),
            signers: Signers::default(),
            metrics,
            spare: HeapTrimmer::default(),
            settings,
        })
    }

    /// Where the handshakes of other ports run as well.
    pub fn handshakes(&self) -> Arc<Handshakes> {
        self.handshakes.clone()
    }

    /// Sessions that start and end use memory.
    pub fn spare(&self) -> HeapTrimmer {
        self.spare.clone()
    }

    /// Who is connected.
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// Hears of certificates that are signed elsewhere, too.
    pub fn signers(&self) -> Signers {
        self.signers.clone()
    }

    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Serves edges until stopped, at its port and those `handed` over, then closes every session. `unready` is ready once it listens.
    ///
    /// # Errors
    /// A port cannot be listened on, or its listener ended.
    pub async fn run(
        self,
        handed: Handed,
        unready: Unready,
        stop: CancellationToken,
    ) -> Result<(), HubError> {
        let sessions = TaskTracker::new();
        let listener = self.listen()?;
        unready.ready();
        let hub = Arc::new(self);
        tokio::try_join!(
            hub.clone().accept_tcp(listener, &sessions, &stop),
            hub.clone().accept_tcp(handed, &sessions, &stop),
            hub.clone().accept_quic(&sessions, &stop)
        )?;
        sessions.close();
        if tokio::time::timeout(DRAIN, sessions.wait()).await.is_err() {
            tracing::warn!("sessions did not end in time and were aborted");
        }
        if let Some(quic) = &hub.quic {
            quic.close();
        }
        Ok(())
    }

    fn listen(&self) -> Result<TcpListener, HubError> {
        let address = self.settings.listen;
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        let listener = match socket {
            Some(socket) => socket.listen(BACKLOG),
            None => Err(std::io::Error::other("the socket is in use")),
        };
        listener.map_err(|source| HubError::Listen { address, source })
    }

    async fn accept_tcp(
        self: Arc<Self>,
        listener: impl Listen<Stream = TcpStream, Peer = SocketAddr>,
        sessions: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<(), HubError> {
        loop {
            let (tcp, peer) = tokio::select! {
                biased;
                _ = stop.cancelled() => return Ok(()),
                accepted = listener::next(&listener, "the port of edges") => accepted,
            };
            let (hub, stop, tracker) = (self.clone(), stop.clone(), sessions.clone());
            sessions.spawn(async move {
                if let Some(entrant) = hub.upgrade(tcp, peer, &stop).await {
                    // Apart from the handshake, whose large future ends here.
                    tracker.spawn(async move { hub.serve(entrant, &stop).await });
                }
            });
        }
    }

    async fn accept_quic(
        self: Arc<Self>,
        sessions: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<(), HubError> {
        let Some(listener) = self.quic.clone() else { return Ok(()) };
        loop {
            let incoming = tokio::select! {
                biased;
                _ = stop.cancelled() => return Ok(()),
                incoming = listener.accept() => incoming,
            };
            let Some(incoming) = incoming else { return Err(HubError::QuicEnded) };
            if self.handshakes.is_crowded() && !incoming.remote_address_validated() {
                // Costs nothing here; who lied about its address never hears of it. Without it the node tries again.
                let _ = incoming.retry();
                continue;
            }
            let (hub, stop, tracker) = (self.clone(), stop.clone(), sessions.clone());
            let listener = listener.clone();
            sessions.spawn(async move {
                let peer = incoming.remote_address();
                let (caller, check) = hub.check();
                let welcome = async move { listener.welcome(incoming, check).await };
                let accepted = tokio::select! {
                    biased;
                    _ = stop.cancelled() => return,
                    accepted = hub.handshakes.acquire_slot(welcome) => accepted,
                };
                if let Some(entrant) = hub.entrant(accepted, &caller, peer) {
                    tracker.spawn(async move { hub.serve(entrant, &stop).await });
                }
            });
        }
    }

    async fn upgrade(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
        stop: &CancellationToken,
    ) -> Option<Box<AcceptedEdge>> {
        let (caller, check) = self.check();
        let acceptor = self.acceptor.clone();
        let handshake = |tcp| async move { acceptor.accept(tcp, check).await };
        let accepted = tokio::select! {
            biased;
            _ = stop.cancelled() => return None,
            accepted = self.handshakes.run(tcp, handshake) => accepted,
        };
        self.entrant(accepted, &caller, peer)
    }

    /// Who may come in, and a place for the name of who did.
    #[allow(clippy::type_complexity)] // A closure type has no shorter name.
    fn check(
        &self,
    ) -> (
        Arc<Mutex<Option<Caller>>>,
        impl FnOnce(&CertificateDer<'_>, &Hello) -> Result<(), Refusal> + Send + Unpin + 'static,
    ) {
        let enforce = self.settings.enforce;
        let (admission, rate_accounts, refused) =
            (self.admission.clone(), self.rate_accounts.clone(), self.refused.clone());
        let trust = self.trust.borrow().clone();
        let caller = Arc::new(Mutex::new(None));
        let found = caller.clone();
        let check = move |certificate: &CertificateDer<'_>, hello: &Hello| {
            let node = identify(certificate, hello, enforce).map_err(Refusal::Forbidden)?;
            let holder = Holder::of(certificate, &node);
            refused.check(&node, &holder).map_err(Refusal::Forbidden)?;
            if let Some(wait) = rate_accounts.barred(&node, Instant::now()) {
                return Err(Refusal::Busy(wait));
            }
            let mut admission = admission.lock().unwrap_or_else(PoisonError::into_inner);
            admission.admit(&node, Instant::now()).map_err(Refusal::Busy)?;
            let signer = trust.signer_of(certificate);
            *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(Caller { node, holder, signer });
            Ok(())
        };
        (caller, check)
    }

    async fn serve(&self, entrant: Box<AcceptedEdge>, stop: &CancellationToken) {
        let peer = entrant.peer;
        match self.begin(*entrant, stop) {
            Ok((place, session)) => {
                let end = session.await;
                let handle = place.leave(end.reason());
                self.spare.note();
                if let Some(deed) = end.charge() {
                    self.rate_accounts.note(&handle.node, deed, Instant::now());
                }
                log_end(&end, &handle.node, peer, handle.epoch);
            }
            Err(goodbye) => goodbye.await,
        }
    }

    /// A session that is yet to run, or what is said to a node without a place. Boxed: this is all a quiet session holds
    /// of how it began.
    #[allow(clippy::type_complexity)] // Named once.
    fn begin(
        &self,
        entrant: AcceptedEdge,
        stop: &CancellationToken,
    ) -> Result<(RunningSession, BoxFuture<'static, End>), BoxFuture<'static, ()>> {
        let AcceptedEdge { accepted: Accepted { link, .. }, caller: Caller { node, holder, signer }, peer } =
            entrant;
        let serial = holder.serial.clone();
        let Some(handle) = self.registry.enter(&node, holder, self.settings.node_limit, stop) else {
            tracing::warn!(%node, %peer, limit = self.settings.node_limit, "refused: the limit of connected nodes is reached");
            self.metrics.refused(Refused::NodeLimit);
            return Err(Box::pin(link.close(link::CloseReason::NotAllowed)));
        };
        let (dialect, transport) = (link.dialect().as_str(), link.transport().as_str());
        tracing::info!(%node, %peer, dialect, transport, serial, epoch = handle.epoch, connected = self.registry.connected(), "node connected");
        let session = Session {
            handle: handle.clone(),
            keepalive: self.settings.keepalive,
            rooms: self.rooms.clone(),
            registry: self.registry.clone(),
            rate_accounts: self.rate_accounts.clone(),
            metrics: self.metrics.clone(),
        };
        self.rate_accounts.note(&node, Charge::Connected, Instant::now());
        self.spare.note();
        if let Some(signer) = signer {
            self.signers.note(&node, signer);
        }
        let place = RunningSession::take(handle.clone(), self.registry.clone(), self.metrics.clone());
        // It may have been put on the list between the check and its place.
        if let Err(why) = self.refused.check(&node, &handle.holder) {
            let _ = handle.put_out.set(why);
            handle.ended.cancel();
        }
        Ok((place, session.run(link)))
    }

    fn entrant(
        &self,
        accepted: Option<Result<Accepted, AcceptError>>,
        caller: &Mutex<Option<Caller>>,
        peer: SocketAddr,
    ) -> Option<Box<AcceptedEdge>> {
        match accepted {
            Some(Ok(accepted)) => {
                let caller = caller.lock().unwrap_or_else(PoisonError::into_inner).take()?;
                return Some(Box::new(AcceptedEdge { accepted, caller, peer }));
            }
            Some(Err(AcceptError::Busy(wait))) => {
                self.metrics.refused(Refused::Busy);
                tracing::debug!(%peer, wait_ms = wait.as_millis() as u64, "connection told to come back");
            }
            Some(Err(error)) => {
                self.metrics.refused(Refused::Handshake);
                tracing::warn!(%peer, error = describe(&error), "connection refused");
            }
            None => {
                self.metrics.refused(Refused::Handshake);
                tracing::debug!(%peer, "connection without a handshake dropped");
            }
        }
        None
    }
}

/// The place of a session that runs. Left when it is dropped, by a panic of the session as well.
struct RunningSession {
    handle: SessionHandle,
    registry: Registry,
    metrics: Metrics,
    reason: Ended,
}

impl RunningSession {
    fn take(handle: SessionHandle, registry: Registry, metrics: Metrics) -> RunningSession {
        metrics.began();
        RunningSession { handle, registry, metrics, reason: Ended::Failed }
    }

    fn leave(mut self, reason: Ended) -> SessionHandle {
        self.reason = reason;
        self.handle.clone()
    }
}

impl Drop for RunningSession {
    fn drop(&mut self) {
        self.registry.leave(&self.handle);
        self.metrics.ended(self.reason);
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn log_end(end: &End, node: &NodeName, peer: SocketAddr, epoch: u64) {
    let error = describe(end);
    if end.is_nodes_fault() {
        tracing::warn!(%node, %peer, epoch, error, "node disconnected: it broke the protocol");
    } else {
        tracing::info!(%node, %peer, epoch, error, "node disconnected");
    }
}

/// The node a connection speaks for: the certificate's, which the request must name as well.
fn identify(certificate: &[u8], hello: &Hello, enforce: bool) -> Result<NodeName, String> {
    let named = NodeName::new(&hello.node_id).map_err(|error| format!("header node_id: {error}"))?;
    if !enforce {
        return Ok(named);
    }
    let subject = EdgeSubject::of(certificate).map_err(|error| error.to_string())?;
    if subject.node != named.as_str() {
        return Err(format!("certificate of node {} may not connect as node {named}", subject.node));
    }
    Ok(named)
}
