//! An embedded MQTT 3.1.1 broker on rumqttc's codec. Sessions and retained messages live in memory.
//!
//! ```text
//! accept -> connection (one task each: reader + writer) -> State (one mutex, never held over an await)
//!                                                           ^ Handle: publish, subscribe
//! ```
//!
//! Promises: a publisher is never stalled by a subscriber on the network. Each session has one queue; when it is full
//! its **oldest** message is lost. What a [`Handle`] subscription has not dealt with holds back the clients that wait for
//! word of it: QoS 1 and 2 are acknowledged, in order, when it has, and a client with too much under way is not read.
//! QoS 0 without space is lost. New retained topics beyond the limit are delivered but not kept. Each loss counts in
//! [`Handle::dropped`]. Malformed packets close only their connection.

mod confirm;
mod connection;
mod outgoing;
mod pace;
mod packets;
mod refusals;
mod retained;
mod session;
mod space;
mod state;
mod subscriptions;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Delivery, Login, MAX_PACKET, Publish, filter};
use pace::Pace;
use space::Space;
use state::{Origin, State};

/// Where the broker listens and what it may use.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Loopback unless apps of other machines are wanted; then set `login`.
    pub listen: SocketAddr,
    /// What every client must say; `None` admits everyone.
    pub login: Option<Login>,
    pub limits: Limits,
}

impl Settings {
    pub fn at(listen: SocketAddr) -> Settings {
        Settings { listen, login: None, limits: Limits::default() }
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
    /// Bytes that wait for all sessions; beyond them, each that gets more keeps a sixty-fourth of what it may.
    pub all_queues_bytes: usize,
    pub retained_messages: usize,
    pub retained_bytes: usize,
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
            filter_bytes: 16 * MAX_PACKET,
            queue_messages: 4096,
            queue_bytes: 4 * MAX_PACKET,
            all_queues_bytes: 32 * MAX_PACKET,
            retained_messages: 4096,
            retained_bytes: 8 * MAX_PACKET,
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

/// What a broker counts. All but `clients` since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Clients that are connected now.
    pub clients: usize,
    /// Connections that became no client's: limits, logins, other versions of MQTT.
    pub refused_clients: u64,
    pub refused_subscriptions: u64,
    /// Messages that clients published.
    pub received: u64,
    /// Messages lost by any of the limits.
    pub dropped: u64,
}

/// Connections beyond the clients: they are told why they are refused.
const SPARE: usize = 16;

/// Where a person sets them.
const CLIENTS_KEY: &str = "modules.eventBus.limits.clients";
const FILTERS_KEY: &str = "modules.eventBus.limits.subscriptionsPerClient";

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
    pub async fn bind(settings: Settings) -> Result<Broker, BindError> {
        let bind_error = |source| BindError::Bind { listen: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        if !address.ip().is_loopback() && settings.login.is_none() {
            tracing::warn!(peer = %address, "the MQTT broker admits anyone who reaches it");
        }
        let (space, large) = (Space::new(), Arc::new(Semaphore::new(packets::LARGE)));
        let state = Mutex::new(State::new(settings.limits.clone(), space.clone()));
        let pace = Pace::new(settings.limits.bytes_per_second, settings.limits.bytes_per_second / 8);
        Ok(Broker { listener, address, shared: Arc::new(Shared { settings, state, pace, space, large }) })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }

    /// Serves until `stop`; then closes all connections and returns when their tasks ended.
    pub async fn run(self, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(
            self.shared.settings.limits.clients.saturating_add(SPARE).min(Semaphore::MAX_PERMITS),
        ));
        let tasks = TaskTracker::new();
        let arrivals = self.shared.settings.limits.connects_per_second;
        let arrivals = Pace::new(arrivals, arrivals);
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.cancelled() => break,
                (_, accepted) = async { (arrivals.take(1).await, self.listener.accept().await) } => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(error = %error, "could not accept an MQTT connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                tracing::debug!(peer = %peer, limit = CLIENTS_KEY, "MQTT connection refused, too many are open");
                self.shared.with(|state| state.counts.refused_clients += 1);
                continue;
            };
            let (shared, stop) = (self.shared.clone(), stop.clone());
            tasks.spawn(async move {
                connection::serve(stream, peer, &shared, stop).await;
                drop(slot);
            });
        }
        tasks.close();
        tasks.wait().await;
    }
}

/// Out of file descriptors is the usual reason; they come back when connections close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
        self.shared.with(|state| state.counts)
    }
}
