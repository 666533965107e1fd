//! MetaServer: the Kubernetes API on a node, for its pods and for who administers it, with the cloud and without.
//!
//! ```text
//! client --TLS--> kubeapi --> users    (tokens and the node's certificate, checked here)
//!                         --> reads    cloud first, as its caller; what it answers is kept
//!                         --> views    what is watched: one list and one watch in the cloud for all watchers
//!                         --> pass     all else: the cloud, or 503 while the node is cut off
//! ```
//!
//! Promises: nobody is anonymous; what the cloud has not allowed to a user is not shown to him, on- or offline; a list is
//! shown only if it is complete; what is stale says since when; a write is never acknowledged by the node. Behaviour of
//! KubeEdge's MetaServer: docs/protocol/edge-runtime.md 3.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait for nobody else"))]

mod ask;
mod backend;
mod caller;
mod catalog;
mod filters;
mod gathered;
mod gathering;
mod held;
mod jwt;
mod keys;
mod log;
mod object;
mod pass;
mod pods;
mod queue;
mod queueing;
mod reads;
mod recent;
mod reviews;
mod scope;
pub mod serving;
mod tables;
pub mod upstream;
mod users;
mod views;
mod waiting;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use daemon::errors::describe;
use kubeapi::{Api, Door, Limits, Transport};
use kubeletproxy::Passes;
use metamanager::sealed::Seals;
use metamanager::{KnownServices, Objects, Outbox, Reach};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use backend::Shared;
use caller::Caller;
use catalog::Catalog;
pub use filters::{Filter, Filters};
use gathered::Gathered;
use held::Held;
use keys::Keys;
pub use keys::KeysError;
use pods::NodeApi;
pub use queue::{Queued, QueuedWrites};
use recent::Recent;
use serving::{Files, Live, ServingError};
use tables::Tables;
use upstream::Upstream;
use users::Users;
pub use views::Bounds;
use views::Views;
use waiting::Queue;

/// What MetaServer is told by the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's name.
    pub node: String,
    /// Where it listens; port 0 takes a free one.
    pub server: SocketAddr,
    /// Where it listens as well if the address is this machine's: where pods reach it.
    pub dummy: Option<SocketAddr>,
    /// Its own database.
    pub database: PathBuf,
    pub files: Files,
    /// Issuers of tokens that are signed by the keys of `key_files`.
    pub issuers: Vec<String>,
    /// Tokens must be meant for one of these, or for their issuer.
    pub audiences: Vec<String>,
    /// Keys that sign tokens of service accounts, beside those that the cloud delivers.
    pub key_files: Vec<PathBuf>,
    /// The Node API's socket.
    pub node_api: Option<PathBuf>,
    pub bounds: Bounds,
    /// Who is shown what differently.
    pub filters: Filters,
    /// Views of Services, and of nodes where filters need them, are kept as the node.
    pub watch_services: bool,
    /// Writes that are taken while the node is cut off.
    pub queued_writes: QueuedWrites,
    /// Hub form: a kubelet that is not ours asks here.
    pub hub: Option<Hub>,
}

/// What MetaServer is built on.
#[derive(Clone)]
pub struct Deps {
    /// What the node holds for its own work.
    pub objects: Objects,
    /// What this node says of its pods waits there; `None`: something else runs them.
    pub outbox: Option<Outbox>,
    pub seals: Seals,
    /// What this node shows to its kubelet; `None`: nothing.
    pub passes: Option<Passes>,
    pub upstream: Arc<dyn Upstream>,
    /// Told which Services are known.
    pub services: watch::Sender<KnownServices>,
    /// Told how pods reach it.
    pub reach: watch::Sender<Option<Reach>>,
}

/// The hub form: something else runs this node's pods, and takes MetaServer for the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hub {
    /// Where requests are taken without TLS, and those without a token as the node's own: loopback only.
    pub plain: Option<SocketAddr>,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("opening the database of MetaServer")]
    Database(#[from] store::OpenError),
    #[error("reading the database of MetaServer")]
    Read(#[from] store::StoreError),
    #[error("reading what filters need to know: {0}")]
    Facts(apimachinery::Status),
    #[error("MetaServer's serviceAccountKeyFiles")]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Serving(#[from] ServingError),
    #[error("MetaServer listening on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
}

/// Rest after a start that failed.
const AGAIN: Duration = Duration::from_secs(60);
/// How often bounds are looked after.
const TIDY: Duration = Duration::from_secs(60);
/// Requests under way at once, and connections of a door.
const LIMITS: Limits = Limits { reads: 100, changes: 50 };
const CONNECTIONS: usize = 512;

/// Serves until `stop`. What keeps it from serving is logged, and tried again: nothing else of the node depends on it.
pub async fn run(settings: Settings, deps: Deps, stop: CancellationToken) {
    let mut told = String::new();
    loop {
        match MetaServer::build(settings.clone(), deps.clone()).await {
            Ok(server) => return server.run(stop).await,
            Err(error) => {
                let why = describe(&error);
                if why != told {
                    tracing::error!(error = %why, "MetaServer does not serve; pods and the link go on without");
                }
                told = why;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(AGAIN) => {}
        }
    }
}

/// Built, not running.
pub struct MetaServer {
    listener: TcpListener,
    /// Where it is reached without TLS, in hub form.
    plain: Option<TcpListener>,
    /// Where pods reach it, if that address is there already.
    dummy: Option<TcpListener>,
    address: SocketAddr,
    settings: Settings,
    live: Live,
    trust: String,
    shared: Arc<Shared>,
    reach: watch::Sender<Option<Reach>>,
    /// Ends views and watches.
    views_stop: CancellationToken,
}

impl MetaServer {
    /// Opens the database, makes certificates and binds the socket.
    ///
    /// # Errors
    /// What of it failed.
    pub async fn build(settings: Settings, deps: Deps) -> Result<MetaServer, BuildError> {
        let Deps { objects, outbox, seals, passes, upstream, services, reach } = deps;
        let tables = open(settings.database.clone(), seals).await?;
        tables.tidy().await?;
        let listen = |source| BuildError::Listen { address: settings.server, source };
        let listener = TcpListener::bind(settings.server).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let plain = match settings.hub.and_then(|hub| hub.plain) {
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(|source| BuildError::Listen { address, source })?)
            }
            None => None,
        };
        let dummy = match settings.dummy {
            Some(address) => TcpListener::bind(address).await.ok(),
            None => None,
        };
        let live = Live::new();
        let names =
            serving::names(&[Some(address), settings.dummy].into_iter().flatten().collect::<Vec<_>>());
        let trust = live.look(settings.files.clone(), names, address).await?;
        let Settings { issuers, audiences, key_files, .. } = &settings;
        let keys =
            Keys::build(tables.clone(), upstream.clone(), key_files, issuers, audiences.clone()).await?;
        let users = Users { keys: Arc::new(keys), node: settings.node.clone() };
        let node = Caller::node(users.node_user());
        let stop = CancellationToken::new();
        let shared = Shared {
            catalog: Arc::new(Catalog::build(tables.clone(), upstream.clone(), node).await),
            views: Views::new(tables.clone(), upstream.clone(), settings.bounds, stop.clone()),
            held: Held::new(objects, settings.node.clone()),
            node_api: settings.node_api.clone().map(NodeApi),
            cut: Arc::new(AtomicI64::new(0)),
            stop: stop.clone(),
            filters: settings.filters.clone(),
            gathered: Gathered::new(services),
            recent: Recent::default(),
            queue: Queue::new(settings.queued_writes.clone(), settings.hub.is_some()),
            outbox,
            passes,
            reach: reach.subscribe(),
            upstream,
            tables,
            users,
        };
        let shared = Arc::new(shared);
        shared.look_at_queue().await?;
        shared.gather().await.map_err(BuildError::Facts)?;
        Ok(MetaServer {
            listener,
            plain,
            dummy,
            address,
            settings,
            live,
            trust,
            shared,
            reach,
            views_stop: stop,
        })
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is reached without TLS.
    pub fn plain_address(&self) -> Option<SocketAddr> {
        self.plain.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// The CAs that sign what it shows, in PEM.
    pub fn trust(&self) -> &str {
        &self.trust
    }

    /// Serves until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let MetaServer { listener, plain, dummy, address, settings, live, trust, shared, reach, views_stop } =
            self;
        tracing::info!(peer = %address, "MetaServer listening");
        let bound = dummy.as_ref().and_then(|dummy| dummy.local_addr().ok());
        let told = Reach { host: address, pods: bound, ca: trust };
        reach.send_replace(Some(told));
        let api = Api::new(shared.clone(), kubeapi::Settings { limits: LIMITS, audit: None });
        let door = |what| Door { what, transport: Transport::Tls(live.tls()), connections: CONNECTIONS };
        let main = kubeapi::serve(api.clone(), listener, door("MetaServer"), stop.clone());
        let plain = async {
            let Some(listener) = plain else { return };
            let bound = listener.local_addr().map(|bound| bound.to_string()).unwrap_or_default();
            tracing::warn!(
                peer = bound,
                "MetaServer listens without TLS: every program of this machine that connects has the rights of the node"
            );
            let door = Door { what: users::PLAIN, transport: Transport::Plain, connections: CONNECTIONS };
            kubeapi::serve(api.clone(), listener, door, stop.clone()).await;
        };
        let dummy = async {
            let (listener, bound) = match (dummy.zip(bound), settings.dummy) {
                (Some(there), _) => there,
                (None, None) => return,
                (None, Some(wanted)) => match bind_when_there(wanted, &stop).await {
                    Some(there) => there,
                    None => return,
                },
            };
            tracing::info!(peer = %bound, "MetaServer listening for pods");
            reach.send_modify(|told| told.iter_mut().for_each(|told| told.pods = Some(bound)));
            kubeapi::serve(api.clone(), listener, door("MetaServer's port for pods"), stop.clone()).await;
        };
        let names =
            serving::names(&[Some(address), settings.dummy].into_iter().flatten().collect::<Vec<_>>());
        let looking = async {
            let mut connected = shared.upstream.connected();
            loop {
                tokio::select! {
                    () = sleep(live.rest()) => {}
                    // Another CA is learnt of in a session.
                    Ok(()) = connected.changed() => {}
                }
                match live.look(settings.files.clone(), names.clone(), address).await {
                    Ok(ca) => {
                        reach.send_if_modified(|told| {
                            let Some(told) = told.as_mut().filter(|told| told.ca != ca) else { return false };
                            told.ca.clone_from(&ca);
                            true
                        });
                    }
                    Err(error) => tracing::warn!(error = %describe(&error), "MetaServer's certificates"),
                }
            }
        };
        let ending = async {
            stop.cancelled().await;
            views_stop.cancel();
        };
        let aside = async {
            tokio::join!(
                looking,
                tidying(&shared),
                links(&shared),
                gathering::run(&shared),
                queueing::run(&shared),
                gathering::keep(&shared, settings.watch_services)
            )
        };
        tokio::select! {
            _ = async { tokio::join!(main, plain, dummy, ending) } => {}
            _ = aside => {}
        }
        reach.send_replace(None);
        views_stop.cancel();
        shared.views.ended().await;
    }
}

async fn open(path: PathBuf, seals: Seals) -> Result<Tables, BuildError> {
    let opened = daemon::blocking(move || Ok(Tables::open(&path, seals))).await;
    match opened {
        Ok(opened) => Ok(opened?),
        Err(_) => Err(BuildError::Read(store::StoreError::Closed)),
    }
}

/// Looks after what is kept, while anything is.
async fn tidying(shared: &Shared) {
    loop {
        sleep(TIDY).await;
        if let Err(error) = shared.views.tidy().await {
            tracing::warn!(error = %describe(&error), "what MetaServer keeps is not looked after");
        }
        tracing::debug!(count = shared.views.count(), "views");
    }
}

/// Notes when the link is lost.
async fn links(shared: &Shared) {
    let mut connected = shared.upstream.connected();
    loop {
        if connected.changed().await.is_err() {
            return std::future::pending().await;
        }
        let cut = if *connected.borrow_and_update() { 0 } else { daemon::clock::unix_seconds() };
        shared.cut.store(cut, Ordering::Relaxed);
    }
}

/// A listener on an address that may not be there yet. `None`: it is over.
async fn bind_when_there(address: SocketAddr, stop: &CancellationToken) -> Option<(TcpListener, SocketAddr)> {
    let mut is_told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener.local_addr().ok().map(|bound| (listener, bound)),
            Err(error) if !is_told => {
                is_told = true;
                tracing::info!(peer = %address, error = %error, "MetaServer cannot listen for pods: pods outside the host's network reach it once the address is there");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = sleep(AGAIN) => {}
        }
    }
}
