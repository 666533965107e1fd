//! An embedded Kubernetes API server on SQLite: enough of Kubernetes for one machine, tests and small closed sites.
//!
//! [`ApiServer::build`] binds the socket, opens the database, makes keys and default objects; [`ApiServer::run`]
//! serves until told to stop, and runs the controllers of a small cluster and a scheduler.

mod addresses;
mod admission;
mod aggregation;
mod aggregator;
mod apiservices;
mod approving;
mod auth;
mod authorise;
mod backend;
mod bootstrap;
mod certificates;
mod collector;
mod context;
mod controlling;
mod conversion;
mod dependents;
mod graph;
mod in_process;
mod keys;
mod limits;
mod namespaces;
mod nodes;
mod owners;
mod policies;
mod quotas;
mod reach;
mod registered;
mod roles;
mod rules;
mod settings;
mod signer;
mod storage;
mod suffix;
mod tokens;
mod turns;
mod usage;
mod verbs;
mod webhooks;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use kubeapi::{CONNECTIONS, Door, Transport, audit};
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

pub use addresses::{NotARange, ServiceRange};
pub use controlling::UnknownController;
pub use keys::KeysError;
pub use kubeapi::Limits;
pub use kubeapi::tls::TlsError;
pub use nodes::{Connection, Nodes, Reach};
pub use settings::{Client, Settings};

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("creating data directory {path}")]
    DataDir { path: PathBuf, source: std::io::Error },
    #[error("preparing keys and certificates")]
    Keys(#[from] KeysError),
    #[error("configuring TLS")]
    Tls(#[from] TlsError),
    #[error("opening the object database")]
    Database(#[from] store::OpenError),
    #[error("listening on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("choosing controllers")]
    Controllers(#[from] controlling::UnknownController),
    #[error("preparing the audit log")]
    Audit(#[from] audit::OpenError),
    #[error("creating the default objects")]
    Defaults(#[source] apimachinery::Status),
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the clean-up task ended early")]
    Collector(#[source] JoinError),
    #[error("the controllers ended early")]
    Controllers(#[source] JoinError),
}

/// Built, not running.
pub struct ApiServer {
    listener: TcpListener,
    address: SocketAddr,
    tls: kubeapi::tls::Tls,
    context: Arc<context::Context>,
    controllers: controlling::Chosen,
    limits: Limits,
    audit: Option<(audit::Log, audit::Writer)>,
    /// Keeps other API servers off the data folder.
    lock: store::FolderLock,
}

impl ApiServer {
    /// Binds the socket, migrates the database, creates the default objects and writes the admin's kubeconfig.
    pub async fn build(settings: Settings) -> Result<ApiServer, BuildError> {
        pki::install_provider();
        let controllers = controlling::choose(&settings.controllers)?;
        let data_dir = settings.data_dir.clone();
        std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
            .create(&data_dir)
            .map_err(|source| BuildError::DataDir { path: data_dir.clone(), source })?;
        let lock = store::lock(&data_dir).await?;
        let (keys, signer) = keys::Keys::prepare(&settings, daemon::clock::unix_seconds())?;
        let tls = kubeapi::tls::configure(&keys.serving, &keys.ca)?;
        let audit = settings.audit_log.clone().map(audit::Settings::at).map(audit::open).transpose()?;
        let registry = Arc::new(kubeapi::registry::Registry::in_all_versions());
        let webhooks = Arc::new(registered::Registered::default());
        let policies = Arc::new(policies::Policies::default());
        let rules = Arc::new(rules::Rules::default());
        let roles = Arc::new(roles::Roles::default());
        let addresses = Arc::new(addresses::Addresses::new(settings.service_range));
        let namespaces = Arc::new(namespaces::Namespaces::default());
        let graph = Arc::new(graph::Graph::default());
        let limits = Arc::new(limits::Limits::default());
        let services = Arc::new(apiservices::Services::new(keys.proxy_client.clone()));
        let database = data_dir.join("apiserver.db");
        let followers = storage::Followers {
            registry: registry.clone(),
            webhooks: webhooks.clone(),
            policies: policies.clone(),
            rules: rules.clone(),
            roles: roles.clone(),
            addresses: addresses.clone(),
            namespaces: namespaces.clone(),
            graph: graph.clone(),
            limits: limits.clone(),
            services: services.clone(),
        };
        let storage = storage::Storage::open(&database, followers)?;
        storage.load().await.map_err(BuildError::Defaults)?;
        let listen_error = |source| BuildError::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let context = Arc::new(context::Context {
            storage,
            registry,
            webhooks,
            policies,
            rules,
            roles,
            signer,
            authority: keys.authority.clone(),
            ca_pem: pki::files::certificate_pem(&keys.ca),
            stop: CancellationToken::new(),
            traffic: context::Traffic::default(),
            usage: usage::Recent::default(),
            addresses,
            namespaces,
            graph,
            limits,
            services,
            restores: !controllers.is_empty(),
            turns: turns::Turns::default(),
            nodes: nodes::WayToNodes { reach: settings.nodes.clone(), identity: keys.kubelet_client.clone() },
        });
        let proxy_ca = pki::files::certificate_pem(&keys.proxy_ca);
        bootstrap::defaults(&context, address.port(), &proxy_ca).await.map_err(BuildError::Defaults)?;
        keys.write_kubeconfigs(&settings, address)?;
        Ok(ApiServer { listener, address, tls, context, controllers, limits: settings.limits, audit, lock })
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`; then ends watches, lets running requests finish for a moment, and returns.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let ApiServer { listener, address, tls, context, controllers, limits, audit, lock: _lock } = self;
        let (audit, writer) = audit.unzip();
        tracing::info!(peer = %address, "API server listening");
        let collecting = CancellationToken::new();
        let trimming = tokio::spawn(context.traffic.spare.clone().give_back(stop.clone()));
        let aggregating = tokio::spawn(aggregator::run(context.clone(), stop.clone()));
        let registering = tokio::spawn(aggregation::registering::run(context.clone(), stop.clone()));
        let probing = tokio::spawn(aggregation::probing::run(context.clone(), stop.clone()));
        let counting = tokio::spawn(quotas::run(context.clone(), stop.clone()));
        let mut collector = tokio::spawn(collector::run(context.clone(), collecting.clone()));
        let controlling = CancellationToken::new();
        let watches = context.stop.clone();
        let api = kubeapi::Api::new(context, kubeapi::Settings { limits, audit });
        let mut controllers = tokio::spawn(controlling::run(api.clone(), controllers, controlling.clone()));
        let door = Door { what: "the API port", transport: Transport::Tls(tls), connections: CONNECTIONS };
        let serving = kubeapi::serve(api, listener, door, stop.clone());
        let ending = async {
            stop.cancelled().await;
            controlling.cancel();
            watches.cancel();
        };
        tokio::select! {
            ((), ()) = async { tokio::join!(serving, ending) } => {
                collecting.cancel();
                trimming.abort();
                aggregating.abort();
                registering.abort();
                probing.abort();
                counting.abort();
                controllers.await.map_err(RunError::Controllers)?;
                collector.await.map_err(RunError::Collector)?;
                if let Some(writer) = writer {
                    writer.end().await;
                }
                Ok(())
            }
            ended = before(&stop, &mut controllers) => ended.map_err(RunError::Controllers),
            // Only a panic ends it before it is told to stop.
            ended = &mut collector => ended.map_err(RunError::Collector),
        }
    }
}

/// How a task ends before the stop; after it, its end is nobody's business here.
async fn before<T>(stop: &CancellationToken, task: &mut JoinHandle<T>) -> Result<T, JoinError> {
    tokio::select! {
        biased;
        () = stop.cancelled() => std::future::pending().await,
        ended = task => ended,
    }
}
