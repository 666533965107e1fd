//! Edged: a small kubelet. Runs the pods stored on this node, tells how they and the node stand.
//!
//! ```text
//! metamanager --changes--> pods --(one worker per uid)--> runtime (CRI), volumes
//!                           ^ pleg: what changed in the runtime
//! pods, node --> outbox (pod statuses, deletions, events) | cloud (registration, node status, lease)
//! ```
//!
//! Owns the folders `<root>/pods` and the pod log folders, and everything in the container runtime that carries a pod
//! uid. Promises: pods start from the store without a link; running containers are adopted, never restarted, when
//! EdgeCore restarts; a status is on disk before it counts as said. Source: docs/protocol/edge-runtime.md 5 and 6.

pub mod addresses;
mod changes;
pub mod context;
pub mod devices;
mod events;
mod eviction;
pub mod images;
mod logs;
pub mod node;
pub mod owner;
pub mod pleg;
pub mod pods;
pub mod probes;
pub mod quantity;
mod runtime;
pub mod server;
pub mod settings;
pub mod shutdown;
mod static_pods;
pub mod status;
mod steady;
mod tree;
mod usage;
pub mod volumes;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use daemon::health::{Health, Unready};
use daemon::metrics::Metrics;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::host::{Host, Linux};
use crate::metamanager::{Cloud, ObjectChange, Objects, Outbox, Queries};
use context::{Clock, Context, Machine};
use events::Events;
pub use settings::{CgroupDriver, Settings};
use steady::essential;

/// The rooms Edged builds on.
pub struct Deps {
    pub objects: Objects,
    pub queries: Queries,
    pub outbox: Outbox,
    pub cloud: Cloud,
    /// Committed changes of pods, config maps and secrets.
    pub changes: mpsc::Receiver<ObjectChange>,
    /// Of the program: the Node API tells both.
    pub health: Health,
    pub metrics: Metrics,
    /// The cloud has told every pod of this node since the process started ([`crate::metamanager::intake::Outlets`]).
    pub in_step: watch::Receiver<bool>,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("container runtime endpoint")]
    Endpoint(#[source] cri::EndpointError),
    #[error("the Node API")]
    Server(#[source] server::BuildError),
    #[error("making the folder {path}")]
    Folder { path: std::path::PathBuf, source: std::io::Error },
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("reading what pods were given of devices")]
    Devices(#[source] std::io::Error),
    #[error("reading the stored pods")]
    Load(#[source] store::StoreError),
    #[error("{what} ended without being asked to")]
    Ended { what: &'static str },
    #[error("writing events failed")]
    Events(#[source] tokio::task::JoinError),
}

/// How long the events of the last steps may take to be stored.
const LAST_EVENTS: std::time::Duration = std::time::Duration::from_secs(2);

/// Edged, built and not running.
pub struct Edged {
    context: Arc<Context>,
    facts: watch::Sender<runtime::RuntimeFacts>,
    delivery: events::Delivery,
    deps: Parts,
    /// Held while Edged lives: nobody else uses the cgroups.
    cgroups: Option<std::fs::File>,
    /// Dropped when the stored pods have their workers.
    unready: Unready,
}

struct Parts {
    cloud: Cloud,
    changes: mpsc::Receiver<ObjectChange>,
    in_step: watch::Receiver<bool>,
    host: Arc<dyn Host>,
    server: Option<server::Server>,
}

impl Edged {
    /// Prepares folders and clients. The runtime may be absent: it is asked again and again, and the node says so.
    pub async fn build(settings: Settings, deps: Deps) -> Result<Edged, BuildError> {
        Edged::build_on(settings, deps, Arc::new(Linux), Clock::wall()).await
    }

    /// The same on another host and clock.
    pub async fn build_on(
        settings: Settings,
        deps: Deps,
        host: Arc<dyn Host>,
        clock: Clock,
    ) -> Result<Edged, BuildError> {
        let pods = settings.root_dir.join("pods");
        for path in [&pods, &settings.pod_logs_dir] {
            let folder = |source| BuildError::Folder { path: path.clone(), source };
            tokio::fs::create_dir_all(path).await.map_err(folder)?;
        }
        let server = match &settings.server {
            Some(settings) => Some(server::Server::build(settings).await.map_err(BuildError::Server)?),
            None => None,
        };
        let cgroups = settings
            .cgroups
            .per_qos
            .then(|| owner::claim_cgroups(&settings.locks_dir, &settings.cgroup_root))
            .flatten();
        let (facts, known) = watch::channel(runtime::RuntimeFacts::unknown(settings.cgroup_driver));
        let outbox = settings.report_events.then(|| deps.outbox.clone());
        let (events, delivery) = Events::new(outbox, settings.node.as_str());
        let context = Arc::new(Context {
            runtime: cri::Runtime::new(&settings.runtime_endpoint).map_err(BuildError::Endpoint)?,
            facts: known,
            objects: deps.objects,
            queries: deps.queries,
            outbox: deps.outbox,
            events,
            clock,
            machine: Machine::read(&*host, &settings),
            addresses: addresses::Addresses::find(settings.node_ips.clone(), &*host),
            name_servers: pods::resolv::NameServers::default(),
            pulls: Semaphore::new(settings.images.parallel_pulls),
            pull_pace: images::pace::Pace::new(settings.images.pulls_per_second, settings.images.burst),
            collector: images::collector::Collector::default(),
            image_place: tokio::sync::Mutex::new(None),
            board: pods::board::Board::default(),
            cgroups_shared: AtomicBool::new(false),
            mirrors: static_pods::mirrors::Mirrors::default(),
            node_uid: watch::channel(None).0,
            node_seen: watch::channel(node::seen::Seen::default()).0,
            capacity: node::capacity::Capacity::default(),
            pressure: watch::channel(pods::admission::Pressure::default()).0,
            shutdown: watch::channel(false).0,
            activity: Arc::new(Notify::new()),
            link: deps.cloud.link(),
            no_registry_until: Mutex::new(None),
            beat: deps.health.beat("edged"),
            metrics: deps.metrics,
            devices: Arc::new(devices::Devices::new(&settings.root_dir)),
            csi: Arc::new(volumes::csi::Csi::new(&settings.root_dir)),
            health: deps.health,
            settings,
        });
        Ok(Edged {
            unready: context.health.wait_for("edged"),
            context,
            facts,
            delivery,
            cgroups,
            deps: Parts { cloud: deps.cloud, changes: deps.changes, in_step: deps.in_step, host, server },
        })
    }

    /// Runs until `stop`. Containers go on running.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let _cgroups = self.cgroups;
        let mut pods = pods::Pods::new(self.context.clone(), stop.clone());
        self.context.devices.load().await.map_err(RunError::Devices)?;
        pods.load().await.map_err(RunError::Load)?;
        self.unready.ready();
        let all_told = CancellationToken::new();
        let mut delivering = tokio::spawn(self.delivery.run(all_told.clone()));
        let runtime = self.context.runtime.clone();
        let (relisted, inbox) = mpsc::channel(pleg::RELIST_QUEUE);
        let (healthy, health) = watch::channel(None);
        let pleg = pleg::Pleg {
            runtime: runtime.clone(),
            mark: owner::mark(&self.context.settings),
            relisted,
            poke: self.context.activity.clone(),
            healthy,
            beat: self.context.health.beat("edged: runtime"),
        };
        let (snapshots, files) = mpsc::channel(static_pods::SNAPSHOT_QUEUE);
        let link = self.deps.cloud.link();
        let inputs = pods::Inputs {
            changes: self.deps.changes,
            relisted: inbox,
            files,
            link,
            in_step: self.deps.in_step,
        };
        let (from_files, mirrors_cloud) = (pods.from_files(), self.deps.cloud.clone());
        let (context, host) = (self.context.clone(), self.deps.host.clone());
        let (drivers, programs) = (self.context.csi.clone(), self.context.settings.shutdown_programs.clone());
        let plugged = devices::run(context.clone(), stop.clone());
        let api = serve(self.deps.server, context.clone(), self.deps.host.clone(), stop.clone());
        let node = node::Node { context, cloud: self.deps.cloud, host: self.deps.host, pleg: health };
        let context = self.context;
        let board = context.board.clone();
        let waiting = move || board.retry();
        // These hold nothing that has to be finished: when the pods have drained, they may be dropped in any wait.
        let aides = async {
            tokio::try_join!(
                essential("watching the runtime", runtime::watch(runtime, self.facts, stop.clone()), &stop),
                essential("relisting", pleg.run(stop.clone()), &stop),
                essential("telling of the node", node.run(stop.clone()), &stop),
                essential(
                    "finding CSI drivers",
                    volumes::csi::registry::follow(drivers, waiting, stop.clone()),
                    &stop
                ),
                essential("serving device plugins", plugged, &stop),
                essential("the Node API", api, &stop),
                essential("rotating logs", logs::rotate(context.clone(), stop.clone()), &stop),
                essential(
                    "following addresses",
                    addresses::follow(context.clone(), host.clone(), stop.clone()),
                    &stop
                ),
                essential(
                    "collecting images",
                    images::collector::run(context.clone(), host.clone(), stop.clone()),
                    &stop
                ),
                essential("eviction", eviction::run(context.clone(), host, stop.clone()), &stop),
                essential("awaiting shutdown", shutdown::run(context.clone(), programs, stop.clone()), &stop),
                essential(
                    "reading static pods",
                    static_pods::follow(context.clone(), snapshots, stop.clone()),
                    &stop
                ),
                essential(
                    "mirrors",
                    static_pods::mirrors::keep(context, mirrors_cloud, from_files, stop.clone()),
                    &stop
                ),
            )
        };
        tokio::pin!(aides);
        let mut pods = std::pin::pin!(pods.run(inputs));
        tokio::select! {
            () = &mut pods => {}
            ended = &mut aides => {
                ended?;
                pods.await;
            }
            ended = &mut delivering => {
                ended.map_err(RunError::Events)?;
                return Err(RunError::Ended { what: "writing events" });
            }
        }
        all_told.cancel();
        if tokio::time::timeout(LAST_EVENTS, delivering).await.is_err() {
            tracing::warn!("the last events were not stored in time");
        }
        Ok(())
    }
}

async fn serve(
    server: Option<server::Server>,
    context: Arc<Context>,
    host: Arc<dyn Host>,
    stop: CancellationToken,
) {
    match server {
        Some(server) => server.run(context, host, stop).await,
        None => stop.cancelled().await,
    }
}
