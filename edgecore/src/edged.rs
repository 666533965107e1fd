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
//! EdgeCore restarts; a status is on disk before it counts as said. Source: spec/edge-runtime.md 5 and 6.

pub mod context;
mod events;
pub mod images;
mod logs;
pub mod node;
pub mod pleg;
pub mod pods;
pub mod probes;
pub mod quantity;
mod runtime;
pub mod settings;
pub mod status;
pub mod volumes;

use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::host::{Host, Linux};
use crate::metamanager::{Cloud, ObjectChange, Objects, Outbox, Queries};
use context::{Clock, Context, Machine};
use events::Events;
pub use settings::{CgroupDriver, Settings};

/// The rooms Edged builds on.
pub struct Deps {
    pub objects: Objects,
    pub queries: Queries,
    pub outbox: Outbox,
    pub cloud: Cloud,
    /// Committed changes of pods, config maps and secrets.
    pub changes: mpsc::Receiver<ObjectChange>,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("container runtime endpoint")]
    Endpoint(#[source] cri::EndpointError),
    #[error("making the folder {path}")]
    Folder { path: std::path::PathBuf, source: std::io::Error },
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("reading the stored pods")]
    Load(#[source] store::StoreError),
}

/// Edged, built and not running.
pub struct Edged {
    context: Arc<Context>,
    facts: watch::Sender<runtime::RuntimeFacts>,
    deps: Parts,
}

struct Parts {
    cloud: Cloud,
    changes: mpsc::Receiver<ObjectChange>,
    host: Arc<dyn Host>,
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
        let (facts, known) = watch::channel(runtime::RuntimeFacts::unknown(settings.cgroup_driver));
        let events = settings.report_events.then(|| deps.outbox.clone());
        let context = Arc::new(Context {
            runtime: cri::Runtime::new(&settings.runtime_endpoint).map_err(BuildError::Endpoint)?,
            facts: known,
            objects: deps.objects,
            queries: deps.queries,
            outbox: deps.outbox,
            events: Events::new(events, settings.node.as_str()),
            clock,
            machine: Machine::read(&*host, &settings),
            pulls: Semaphore::new(1),
            activity: Arc::new(Notify::new()),
            link: deps.cloud.link(),
            no_registry_until: Mutex::new(None),
            settings,
        });
        Ok(Edged { context, facts, deps: Parts { cloud: deps.cloud, changes: deps.changes, host } })
    }

    /// Runs until `stop`. Containers go on running.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let mut pods = pods::Pods::new(self.context.clone(), stop.clone());
        pods.load().await.map_err(RunError::Load)?;
        let runtime = self.context.runtime.clone();
        let (relisted, inbox) = mpsc::channel(pleg::RELIST_QUEUE);
        let (healthy, health) = watch::channel(None);
        let pleg =
            pleg::Pleg { runtime: runtime.clone(), relisted, poke: self.context.activity.clone(), healthy };
        let inputs =
            pods::Inputs { changes: self.deps.changes, relisted: inbox, link: self.deps.cloud.link() };
        let context = self.context.clone();
        let node = node::Node { context, cloud: self.deps.cloud, host: self.deps.host, pleg: health };
        // These hold nothing that has to be finished: when the pods have drained, they may be dropped in any wait.
        let aides = async {
            tokio::join!(
                runtime::watch(runtime, self.facts, stop.clone()),
                pleg.run(stop.clone()),
                node.run(stop.clone()),
                logs::rotate(self.context, stop),
            )
        };
        tokio::pin!(aides);
        let mut pods = std::pin::pin!(pods.run(inputs));
        tokio::select! {
            () = &mut pods => {}
            _ = &mut aides => pods.await,
        }
        Ok(())
    }
}
