//! An embedded MQTT 3.1.1 broker on rumqttc's codec. Sessions and retained messages live in memory.
//!
//! ```text
//! accept -> connection (one task each: reader + writer) -> State (one mutex, never held over an await)
//!                                                           ^ Handle: publish, subscribe
//! ```
//!
//! Promises: a publisher is never stalled by a subscriber on the network. Each session has one queue; when it is full
//! its **oldest** message is lost, and so is that of the largest session when all together have too much. A session
//! without its client ends after hours. What EdgeCore answers no client may say. What a [`Handle`] subscription has not dealt with holds back the clients that wait for
//! word of it: QoS 1 and 2 are acknowledged, in order, when it has, and a client with too much under way is not read.
//! QoS 0 without space is lost. New retained topics beyond the limit are delivered but not kept. Each loss counts in
//! [`Handle::dropped`]. Malformed packets close only their connection.

pub mod access;
mod closed;
mod confirm;
mod connection;
mod kept;
mod outgoing;
mod pace;
mod packets;
mod refusals;
mod retained;
mod session;
mod space;
mod state;
mod subscriptions;

use futures_util::future::BoxFuture;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use listener::{Listen, Terms};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Delivery, MAX_PACKET, Publish, filter};
use access::Users;
use pace::Pace;
use space::Space;
use state::{Origin, State};

/// Where the broker listens and what it may use.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Loopback unless apps of other machines are wanted; then set `users`.
    pub listen: SocketAddr,
    /// Who is let in; `None` admits everyone to everything.
    pub users: Option<Arc<Users>>,
    pub limits: Limits,
}

impl Settings {
    pub fn at(listen: SocketAddr) -> Settings {
        Settings { listen, users: None, limits: Limits::default() }
    }
}

/// Bounds of memory and time.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest packet of a client, in bytes.
    pub packet_bytes: usize,
    /// Clients connected at once; some more connections are open to be told so.
    pub clients: usize,
    /// Sessions, connected or kept; the longest disconnected one makes room.
    pub sessions: usize,
    /// Subscriptions of one session.
    pub filters: usize,
    /// Bytes of the subscriptions of all sessions.
    pub filter_bytes: usize,
    /// Messages that wait for one session.
    pub queue_messages: usize,
    /// Bytes that wait for one session.
    pub queue_bytes: usize,
    /// Bytes of all messages that are kept, in queues, under way, retained and as wills. Beyond them the largest
    /// session loses its oldest.
    pub all_queues_bytes: usize,
    pub retained_messages: usize,
    /// How long a session is kept without its client.
    pub kept_for: Duration,
    /// How long a connection may take to say CONNECT.
    pub connect_within: Duration,
    /// Bytes that all clients together may send per second; each packet counts as 1 KiB more. Senders of more are
    /// held back.
    pub bytes_per_second: u64,
    /// Connections accepted per second; more wait in the kernel.
    pub connects_per_second: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            packet_bytes: MAX_PACKET,
            clients: 1024,
            sessions: 2048,
            filters: 4096,
            filter_bytes: 4 * MAX_PACKET,
            queue_messages: 4096,
            queue_bytes: 4 * MAX_PACKET,
            all_queues_bytes: 8 * MAX_PACKET,
            retained_messages: 4096,
            kept_for: Duration::from_secs(2 * 60 * 60),
            connect_within: Duration::from_secs(10),
            bytes_per_second: 64 << 20,
            connects_per_second: 200,
        }
    }
}

impl Limits {
    /// The defaults, with those a person sets.
    pub fn granting(clients: usize, filters: usize) -> Limits {
        Limits { clients, sessions: clients.saturating_mul(2), filters, ..Limits::default() }
    }
}

/// What a broker counts. `clients`, `sessions` and `queued_bytes` are of now, the others since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Clients that are connected now.
    pub clients: usize,
    /// Sessions, with clients and without.
    pub sessions: usize,
    /// Bytes of all messages that are kept.
    pub queued_bytes: usize,
    /// Connections that became no client's: limits, logins, other versions of MQTT.
    pub refused_clients: u64,
    pub refused_subscriptions: u64,
    /// Messages on topics their clients may not publish on.
    pub refused_messages: u64,
    /// Messages that clients published.
    pub received: u64,
    /// Messages lost by any of the limits.
    pub dropped: u64,
}

/// Connections beyond the clients: they are told why they are refused, and give way to newer ones.
const SPARE: usize = 16;

/// Where a person sets them.
const CLIENTS_KEY: &str = "modules.eventBus.limits.clients";
const FILTERS_KEY: &str = "modules.eventBus.limits.subscriptionsPerClient";
const QUEUED_KEY: &str = "modules.eventBus.limits.queuedBytes";
/// How often sessions whose clients stay away are looked for.
const TIDY: Duration = Duration::from_secs(10);
/// How long connections may take to end: they only have to hear of it.
const DRAIN: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("binding the MQTT broker to {listen}")]
    Bind { listen: SocketAddr, source: std::io::Error },
}

/// What connections and handles share.
pub(crate) struct Shared {
    settings: Settings,
    state: Mutex<State>,
    /// Of what clients send, in bytes.
    pace: Pace,
    /// Of what waits for this process.
    space: Space,
    /// Of large packets that arrive.
    large: Arc<Semaphore>,
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Bound, not serving.
pub struct Broker {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Broker {
    /// # Errors
    /// [`BindError`]: the address cannot be bound.
    pub fn bind(settings: Settings) -> BoxFuture<'static, Result<Broker, BindError>> {
        Box::pin(async move {
            let bind_error = |source| BindError::Bind { listen: settings.listen, source };
            let listener = TcpListener::bind(settings.listen).await.map_err(bind_error)?;
            let address = listener.local_addr().map_err(bind_error)?;
            if !address.ip().is_loopback() && settings.users.is_none() {
                tracing::warn!(peer = %address, "the MQTT broker admits anyone who reaches it; modules.eventBus.access.passwordFile would ask for a name");
            }
            let (space, large) = (Space::new(), Arc::new(Semaphore::new(packets::LARGE)));
            let state = Mutex::new(State::new(settings.limits.clone(), space.clone()));
            let pace = Pace::new(settings.limits.bytes_per_second, settings.limits.bytes_per_second / 8);
            Ok(Broker { listener, address, shared: Arc::new(Shared { settings, state, pace, space, large }) })
        })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }

    /// Serves until `stop`; then closes all connections and returns when their tasks ended.
    pub async fn run(self, stop: CancellationToken) {
        let Broker { listener, shared, .. } = self;
        let limits = &shared.settings.limits;
        let terms = Terms {
            what: "the MQTT port",
            places: limits.clients.saturating_add(SPARE),
            first_byte: limits.connect_within,
            drain: DRAIN,
        };
        let pace = Pace::new(limits.connects_per_second, limits.connects_per_second);
        let arrivals = Arrivals { listener, pace };
        let clients = shared.clone();
        let serve = move |client| {
            let shared = clients.clone();
            async move { connection::serve(client, &shared).await }
        };
        tokio::join!(listener::serve(arrivals, terms, stop.clone(), serve), tidy(&shared, &stop));
    }
}

async fn tidy(shared: &Shared, stop: &CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(TIDY)).await.is_some() {
        shared.with(|state| state.tidy(Instant::now()));
    }
}

/// Connections, no faster than their pace.
struct Arrivals {
    listener: TcpListener,
    pace: Pace,
}

impl Listen for Arrivals {
    type Stream = TcpStream;
    type Peer = SocketAddr;

    async fn accept(&self) -> std::io::Result<(TcpStream, SocketAddr)> {
        self.pace.take(1).await;
        Listen::accept(&self.listener).await
    }
}

/// The broker's way in for its own process.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Gives a message to the subscribers on the network, at once and without waiting. It is not given to
    /// [`Handle::subscribe`]rs, so a process does not hear itself. A bad topic or an oversized message is counted as
    /// dropped.
    pub fn publish(&self, publish: Publish) {
        let fits = publish.size() <= self.shared.settings.limits.packet_bytes;
        self.shared.with(|state| {
            if fits && filter::is_topic(&publish.topic) {
                state.publish(publish, Origin::Process);
            } else {
                state.counts.dropped += 1;
            }
        });
    }

    /// True if a session on the network would get what is published on `topic` now.
    pub fn is_wanted(&self, topic: &str) -> bool {
        self.shared.with(|state| state.is_wanted(topic))
    }

    /// Messages that clients publish from now on, in the order they arrive. A client is told that its message arrived
    /// when all subscribers have completed its receipt. Filters that are not valid match nothing.
    pub fn subscribe(&self, filters: &[&str]) -> mpsc::Receiver<Delivery> {
        let (sender, receiver) = mpsc::channel(space::MESSAGES);
        let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
        self.shared.with(|state| state.subscribe_process(filters, sender));
        receiver
    }

    /// Messages lost since the start, by any of the limits.
    pub fn dropped(&self) -> u64 {
        self.shared.with(|state| state.counts.dropped)
    }

    /// What the broker counts.
    pub fn counts(&self) -> Counts {
        self.shared.with(|state| state.counts())
    }
}
