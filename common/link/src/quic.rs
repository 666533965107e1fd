//! The native dialect over QUIC: mutual TLS 1.3, one bidirectional stream of frames and others beside it ([`crate::SideStreams`]),
//! connections that survive a change of the edge's address. 0-RTT is off: nothing that changes state may be replayed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use native::frames::Greeting;
use native::frames::frame::Body;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, IdleTimeout, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use rustls_pki_types::CertificateDer;

use crate::budget::Meter;
use crate::frames::CODE_CLOSED;
use crate::side::{SIDE_STREAMS, WINDOW};
use crate::{
    AcceptError, Accepted, Budget, DialError, FrameReceiver, FrameSender, HANDSHAKE_TIMEOUT, Hello,
    IncomingFrame, Link, Refusal, Target, frames, host_of,
};

/// The peer may not speak for this node.
const CODE_FORBIDDEN: VarInt = VarInt::from_u32(403);
/// Come back later; the reason holds the milliseconds.
const CODE_BUSY: VarInt = VarInt::from_u32(503);

/// The same while it has not greeted: thousands may be waiting for their turn.
const STRANGERS_WINDOW: u32 = 4 * 1024;
/// Largest greeting, in bytes.
const GREETING: usize = 2 * 1024;

/// Edges of any heartbeat live with it.
const LEAST_IDLE: Duration = Duration::from_secs(15);

/// After a restart the first packet of each edge is answered with a reset. A fleet would wait for its turns at the library's
/// 20 ms; resets are smaller than what they answer.
const BETWEEN_RESETS: Duration = Duration::from_micros(100);

/// Bytes the kernel keeps of packets that wait for the server.
const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("TLS configuration for QUIC")]
    Tls(#[from] NoInitialCipherSuite),
    #[error("listening on {address}")]
    Bind { address: SocketAddr, source: std::io::Error },
}

/// `window`: bytes a peer may send ahead of the reader at first; `streams`: how many it may open.
fn transport(
    idle: Duration,
    keep_alive: Option<Duration>,
    window: u32,
    streams: u32,
) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(window))
        .send_window(u64::from(WINDOW))
        .datagram_receive_buffer_size(None)
        // With it every connection that ever sent two packets at once keeps room for ten: 14 KiB instead of 1.4.
        .enable_segmentation_offload(false)
        // The search for larger packets would be repeated every ten minutes on links that are paid by the byte.
        .mtu_discovery_config(None)
        .keep_alive_interval(keep_alive)
        .max_idle_timeout(IdleTimeout::try_from(idle).ok());
    Arc::new(config)
}

/// Listens for edges.
#[derive(Clone)]
pub struct Listener {
    endpoint: quinn::Endpoint,
    budget: Budget,
}

impl Listener {
    /// `config` must require client certificates. A connection that is silent for `idle` ends; edges send something every
    /// five seconds, so less than 15 s is not taken.
    /// `secret` is the same for every replica and over restarts: an edge whose connection died with its server is told so
    /// by whoever gets its next packet.
    ///
    /// # Errors
    /// [`BindError`], or [`DialError`] where the edge binds: the TLS configuration does not fit QUIC, or the UDP
    /// socket cannot be bound.
    pub fn bind(
        address: SocketAddr,
        config: Arc<rustls::ServerConfig>,
        idle: Duration,
        budget: Budget,
        secret: &[u8],
    ) -> Result<Listener, BindError> {
        let mut config = (*config).clone();
        config.alpn_protocols = vec![native::NAME.into()];
        let crypto = QuicServerConfig::try_from(Arc::new(config))?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        server.transport_config(transport(idle.max(LEAST_IDLE), None, STRANGERS_WINDOW, 1)).migration(true);
        let endpoint =
            endpoint(address, server, secret).map_err(|source| BindError::Bind { address, source })?;
        Ok(Listener { endpoint, budget })
    }

    /// # Errors
    /// The socket is gone.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// The next peer that wants to connect; `None` once closed.
    pub async fn accept(&self) -> Option<quinn::Incoming> {
        self.endpoint.accept().await
    }

    /// TLS and greeting. `check` as in [`crate::Acceptor::accept`].
    ///
    /// # Errors
    /// [`AcceptError`]: the handshake or the greeting failed or took too long, or `check` refused the peer.
    pub async fn welcome<F>(&self, incoming: quinn::Incoming, check: F) -> Result<Accepted, AcceptError>
    where
        F: FnOnce(&CertificateDer<'_>, &Hello) -> Result<(), Refusal> + Send,
    {
        let work = self.handshake(incoming, check);
        tokio::time::timeout(HANDSHAKE_TIMEOUT, work)
            .await
            .map_err(|_| AcceptError::TimedOut(HANDSHAKE_TIMEOUT))?
    }

    async fn handshake<F>(&self, incoming: quinn::Incoming, check: F) -> Result<Accepted, AcceptError>
    where
        F: FnOnce(&CertificateDer<'_>, &Hello) -> Result<(), Refusal> + Send,
    {
        let connection = incoming.await.map_err(AcceptError::Quic)?;
        let certificate = peer_certificate(&connection).ok_or(AcceptError::NoCertificate)?;
        let streams = connection.accept_bi().await.map_err(AcceptError::Quic)?;
        let meter = Meter::new(self.budget.clone());
        let (mut sender, mut receiver) = frames::of_quic(connection.clone(), streams, Some(meter));
        receiver.limit(GREETING);
        let hello = read_greeting(&mut receiver).await?;
        match check(&certificate, &hello) {
            Ok(()) => {}
            Err(Refusal::Forbidden(text)) => {
                connection.close(CODE_FORBIDDEN, text.as_bytes());
                return Err(AcceptError::Refused(text));
            }
            Err(Refusal::Busy(wait)) => {
                connection.close(CODE_BUSY, wait.as_millis().to_string().as_bytes());
                return Err(AcceptError::Busy(wait));
            }
        }
        receiver.limit(native::MAX_FRAME_BYTES);
        connection.set_receive_window(VarInt::from_u32(WINDOW));
        let back = Greeting { node: hello.node_id.clone(), project: String::new() };
        sender.send(Body::Greeting(back)).await.map_err(|_| AcceptError::Greeting)?;
        Ok(Accepted { hello, link: Link::Native(sender, receiver) })
    }

    /// Ends every connection.
    pub fn close(&self) {
        self.endpoint.close(CODE_CLOSED, b"the server is stopping");
    }
}

fn endpoint(
    address: SocketAddr,
    server: quinn::ServerConfig,
    secret: &[u8],
) -> std::io::Result<quinn::Endpoint> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let derived = |purpose: &[u8]| ring::hmac::sign(&key, purpose);
    let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, derived(b"QUIC stateless reset").as_ref());
    let mut config = quinn::EndpointConfig::new(Arc::new(reset));
    // Packets with IDs that this server would not make are dropped without a word: it has to know those of the one before.
    let ids = derived(b"QUIC connection IDs")
        .as_ref()
        .iter()
        .take(8)
        .fold(0, |key, byte| key << 8 | u64::from(*byte));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config.min_reset_interval(BETWEEN_RESETS);
    let socket = std::net::UdpSocket::bind(address)?;
    enlarge(&socket);
    quinn::Endpoint::new(config, Some(server), socket, Arc::new(quinn::TokioRuntime))
}

/// Room for what arrives at once when all edges dial: a lost first packet costs its sender a second, and twice as much
/// each time after. A process without the right to force it gets no more than net.core.rmem_max.
fn enlarge(socket: &std::net::UdpSocket) {
    use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
    if set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER).is_err() {
        // Smaller is slower, not wrong.
        let _ = set_socket_recv_buffer_size(socket, RECEIVE_BUFFER);
    }
}

fn peer_certificate(connection: &quinn::Connection) -> Option<CertificateDer<'static>> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.into_iter().next()
}

async fn read_greeting(receiver: &mut FrameReceiver) -> Result<Hello, AcceptError> {
    match receiver.next().await {
        Ok(IncomingFrame::Frame(body)) => match *body {
            Body::Greeting(greeting) => Ok(Hello { node_id: greeting.node, project_id: greeting.project }),
            _ => Err(AcceptError::Greeting),
        },
        _ => Err(AcceptError::Greeting),
    }
}

/// Opens connections with one TLS identity, from one UDP socket.
#[derive(Clone)]
pub struct Dialer {
    endpoint: quinn::Endpoint,
    config: quinn::ClientConfig,
}

/// Any address of any family, else any of IPv4; any port.
const ANY: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
];

impl Dialer {
    /// `heartbeat` is how often a silent connection is kept alive; it ends after `idle`.
    ///
    /// # Errors
    /// [`BindError`], or [`DialError`] where the edge binds: the TLS configuration does not fit QUIC, or the UDP
    /// socket cannot be bound.
    pub fn bind(
        config: Arc<rustls::ClientConfig>,
        heartbeat: Duration,
        idle: Duration,
    ) -> Result<Dialer, DialError> {
        // One socket for both families, where this machine has both.
        let [both, v4] = ANY;
        let endpoint = quinn::Endpoint::client(both).or_else(|_| quinn::Endpoint::client(v4));
        let endpoint = endpoint.map_err(DialError::Endpoint)?;
        Dialer::on(endpoint, config, heartbeat, idle)
    }

    /// Like [`Dialer::bind`], from the socket of another dialer: thousands of edges in one process.
    ///
    /// # Errors
    /// [`DialError`] as [`Dialer::bind`]'s.
    pub fn sharing(
        &self,
        config: Arc<rustls::ClientConfig>,
        heartbeat: Duration,
        idle: Duration,
    ) -> Result<Dialer, DialError> {
        Dialer::on(self.endpoint.clone(), config, heartbeat, idle)
    }

    fn on(
        endpoint: quinn::Endpoint,
        config: Arc<rustls::ClientConfig>,
        heartbeat: Duration,
        idle: Duration,
    ) -> Result<Dialer, DialError> {
        let mut config = (*config).clone();
        config.alpn_protocols = vec![native::NAME.into()];
        let crypto = QuicClientConfig::try_from(Arc::new(config))?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(transport(idle, Some(heartbeat), WINDOW, SIDE_STREAMS));
        Ok(Dialer { endpoint, config })
    }

    /// Moves to a new UDP socket; live connections go on from there.
    ///
    /// # Errors
    /// No new UDP socket could be bound; the old one stays.
    pub fn rebind(&self) -> std::io::Result<()> {
        self.endpoint.rebind(std::net::UdpSocket::bind(ANY.as_slice())?)
    }

    /// # Errors
    /// [`DialError`] names the address and the step that failed or took too long; a refusal has the server's text.
    pub async fn dial(&self, target: &Target) -> Result<Link, DialError> {
        let timed_out = |_| DialError::TimedOut { address: target.address.clone(), after: target.timeout };
        tokio::time::timeout(target.timeout, self.connect(target)).await.map_err(timed_out)?
    }

    async fn connect(&self, target: &Target) -> Result<Link, DialError> {
        let address = || target.address.clone();
        let resolved = tokio::net::lookup_host(&target.address)
            .await
            .map_err(|source| DialError::Connect { address: address(), source })?
            .next()
            .ok_or_else(|| DialError::BadHost { host: address() })?;
        let connecting = self
            .endpoint
            .connect_with(self.config.clone(), resolved, host_of(&target.address))
            .map_err(|source| DialError::QuicConnect { address: address(), source })?;
        let connection = connecting.await.map_err(|source| refused_or(target, source))?;
        let streams = connection.open_bi().await.map_err(|source| refused_or(target, source))?;
        let (mut sender, mut receiver) = frames::of_quic(connection.clone(), streams, None);
        let greeted = greet(&mut sender, &mut receiver, target).await;
        match (greeted, connection.close_reason()) {
            (Ok(()), _) => Ok(Link::Native(sender, receiver)),
            (Err(_), Some(reason)) => Err(refused_or(target, reason)),
            (Err(source), None) => Err(DialError::Greeting { address: address(), source }),
        }
    }
}

async fn greet(
    sender: &mut FrameSender,
    receiver: &mut FrameReceiver,
    target: &Target,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let greeting = Greeting { node: target.node.clone(), project: target.project_id.clone() };
    sender.send(Body::Greeting(greeting)).await?;
    match receiver.next().await? {
        IncomingFrame::Frame(body) if matches!(*body, Body::Greeting(_)) => Ok(()),
        _ => Err("the server did not greet back".into()),
    }
}

fn refused_or(target: &Target, error: ConnectionError) -> DialError {
    let address = target.address.clone();
    match error {
        ConnectionError::ApplicationClosed(close)
            if close.error_code == CODE_FORBIDDEN || close.error_code == CODE_BUSY =>
        {
            let busy = close.error_code == CODE_BUSY;
            let text: String = String::from_utf8_lossy(&close.reason).chars().take(512).collect();
            let retry_after = text.parse().ok().filter(|_| busy).map(Duration::from_millis);
            DialError::Refused { address, status: if busy { 503 } else { 403 }, text, retry_after }
        }
        source => DialError::Quic { address, source },
    }
}
