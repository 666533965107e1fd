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

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait for nobody else"))]

mod essential;
mod eviction;
mod fencing;
mod logs;
pub mod pleg;
pub mod pods;
mod shutdown;
mod static_pods;

use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use daemon::health::{Health, Unready};
use daemon::metrics::Metrics;
use daemon::rooms::Work;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use essential::essential;
use metamanager::{Cloud, ObjectChange, Objects, Outbox, Queries};
pub use nodebase::Settings;
use nodebase::base::Base;
use nodebase::clock::Clock;
use nodebase::events::{self, Events};
use nodebase::host::{Host, Linux};
use nodebase::{addresses, machine, owner, runtime};
use pods::context::Context;

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
    /// The cloud has told every pod of this node since the process started ([`metamanager::intake::Outlets`]).
    pub in_step: watch::Receiver<bool>,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("container runtime endpoint")]
    Endpoint(#[source] cri::EndpointError),
    #[error("the Node API")]
    Server(#[source] nodeapi::BuildError),
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
    server: Option<nodeapi::Server>,
    health: Health,
    metrics: Metrics,
}

impl Edged {
    /// Prepares folders and clients. The runtime may be absent: it is asked again and again, and the node says so.
    pub fn build(settings: Settings, deps: Deps) -> BoxFuture<'static, Result<Edged, BuildError>> {
        Box::pin(async move { Edged::build_on(settings, deps, Arc::new(Linux), Clock::wall()).await })
    }

    /// The same on another host and clock.
    pub fn build_on(
        settings: Settings,
        deps: Deps,
        host: Arc<dyn Host>,
        clock: Clock,
    ) -> BoxFuture<'static, Result<Edged, BuildError>> {
        Box::pin(async move {
            let pods = settings.root_dir.join("pods");
            for path in [&pods, &settings.pod_logs_dir] {
                let folder = |source| BuildError::Folder { path: path.clone(), source };
                tokio::fs::create_dir_all(path).await.map_err(folder)?;
            }
            let server = match &settings.server {
                Some(settings) => Some(nodeapi::Server::build(settings).await.map_err(BuildError::Server)?),
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
            let base = Arc::new(Base {
                runtime: cri::Runtime::new(&settings.runtime_endpoint).map_err(BuildError::Endpoint)?,
                facts: known,
                objects: deps.objects,
                events,
                clock,
                machine: machine::read(&*host, &settings),
                board: podmodel::board::Board::default(),
                pressure: watch::channel(podmodel::admission::Pressure::default()).0,
                shutdown: watch::channel(false).0,
                link: deps.cloud.link(),
                settings,
            });
            let settings = &base.settings;
            let context = Arc::new(Context {
                queries: deps.queries,
                outbox: deps.outbox,
                addresses: Arc::new(addresses::Addresses::find(settings.node_ips.clone(), &*host)),
                name_servers: pods::resolv::NameServers::default(),
                images: Arc::new(images::Images::new(base.clone())),
                capacity: Arc::default(),
                mirrors: static_pods::mirrors::Mirrors::default(),
                node_seen: watch::channel(nodestatus::seen::NodeView::default()).0,
                devices: Arc::new(deviceplugins::PluginDevices::new(&settings.root_dir)),
                csi: Arc::new(volumes::csi::Csi::new(&settings.root_dir)),
                cgroups_shared: AtomicBool::new(false),
                beat: deps.health.beat("edged"),
                activity: Arc::new(Notify::new()),
                base,
            });
            Ok(Edged {
                unready: deps.health.wait_for("edged"),
                context,
                facts,
                delivery,
                cgroups,
                deps: Parts {
                    cloud: deps.cloud,
                    changes: deps.changes,
                    in_step: deps.in_step,
                    host,
                    server,
                    health: deps.health,
                    metrics: deps.metrics,
                },
            })
        })
    }

    /// Runs until `stop`. Containers go on running.
    pub fn run(self, stop: CancellationToken) -> Work<RunError> {
        Box::pin(self.work(stop))
    }

    async fn work(self, stop: CancellationToken) -> Result<(), RunError> {
        let Edged { context, facts, delivery, deps, cgroups: _cgroups, unready } = self;
        let base = context.base.clone();
        let mut pods = pods::Pods::new(context.clone(), stop.clone());
        context.devices.load().await.map_err(RunError::Devices)?;
        pods.load().await.map_err(RunError::Load)?;
        unready.ready();
        let all_told = CancellationToken::new();
        let mut delivering = daemon::spawn(delivery.run(all_told.clone()));
        let (relisted, inbox) = mpsc::channel(pleg::RELIST_QUEUE);
        let (healthy, health) = watch::channel(None);
        let pleg = pleg::Pleg {
            runtime: base.runtime.clone(),
            mark: owner::mark(&base.settings),
            relisted,
            poke: context.activity.clone(),
            healthy,
            beat: deps.health.beat("edged: runtime"),
        };
        let (snapshots, files) = mpsc::channel(static_pods::SNAPSHOT_QUEUE);
        let inputs = pods::Inputs {
            changes: deps.changes,
            relisted: inbox,
            files,
            link: deps.cloud.link(),
            in_step: deps.in_step,
        };
        let (host, node_uid) = (deps.host, watch::channel(None).0);
        let keeper = static_pods::mirrors::Keeper {
            base: base.clone(),
            mirrors: context.mirrors.clone(),
            node_uid: node_uid.subscribe(),
        };
        let node = nodestatus::Node {
            base: base.clone(),
            addresses: context.addresses.clone(),
            capacity: context.capacity.clone(),
            node_uid,
            node_seen: context.node_seen.subscribe(),
            cloud: deps.cloud.clone(),
            host: host.clone(),
            pleg: health,
        };
        let plugins = deviceplugins::Deps {
            devices: context.devices.clone(),
            capacity: context.capacity.clone(),
            board: base.board.clone(),
        };
        let told = nodeapi::Deps {
            base: base.clone(),
            cloud: deps.cloud.clone(),
            addresses: context.addresses.clone(),
            health: deps.health,
            metrics: deps.metrics,
            host: host.clone(),
        };
        let (board, programs) = (base.board.clone(), base.settings.shutdown_programs.clone());
        let waiting = move || board.retry();
        let mirrors = static_pods::mirrors::keep(keeper, deps.cloud, pods.from_files(), stop.clone());
        let addresses =
            addresses::follow(context.addresses.clone(), base.board.clone(), host.clone(), stop.clone());
        let collector = images::collector::run(context.images.clone(), host.clone(), stop.clone());
        let eviction = eviction::run(base.clone(), context.images.clone(), host, stop.clone());
        let drivers = volumes::csi::registry::follow(context.csi.clone(), Box::new(waiting), stop.clone());
        let watched = runtime::watch(base.runtime.clone(), facts, stop.clone());
        // These hold nothing that has to be finished: when the pods have drained, they may be dropped in any wait.
        let aides = async {
            tokio::try_join!(
                essential("watching the runtime", watched, &stop),
                essential("relisting", pleg.run(stop.clone()), &stop),
                essential("telling of the node", node.run(stop.clone()), &stop),
                essential("finding CSI drivers", drivers, &stop),
                essential("serving device plugins", deviceplugins::run(plugins, stop.clone()), &stop),
                essential("the Node API", serve(deps.server, told, stop.clone()), &stop),
                essential("rotating logs", logs::rotate(base.clone(), stop.clone()), &stop),
                essential("following addresses", addresses, &stop),
                essential("collecting images", collector, &stop),
                essential("eviction", eviction, &stop),
                essential("fencing", fencing::run(base.clone(), stop.clone()), &stop),
                essential("awaiting shutdown", shutdown::run(base.clone(), programs, stop.clone()), &stop),
                essential(
                    "reading static pods",
                    static_pods::follow(base.clone(), snapshots, stop.clone()),
                    &stop
                ),
                essential("mirrors", mirrors, &stop),
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

async fn serve(server: Option<nodeapi::Server>, deps: nodeapi::Deps, stop: CancellationToken) {
    match server {
        Some(server) => server.run(deps, stop).await,
        None => stop.cancelled().await,
    }
}
