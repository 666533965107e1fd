//! Builds every room, then runs them, then drains. Reads as the start order of EdgeCore.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use daemon::Rooms;
use daemon::health::Health;
use daemon::memory::HeapTrimmer;
use daemon::metrics::Metrics;
use daemon::monitor::Monitor;
use daemon::notify;
use futures_util::{FutureExt, TryFutureExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::applications::Applications;
use crate::doors::Doors;
use crate::metrics;
use crate::upstream::Way;
use devices::devicetwin::{self, DeviceTwin};
use devices::eventbus::EventBus;
use edged::{self, Edged};
use edgehub::{self, EdgeHub, Uplink};
use edgesettings::Settings;
use kubeletproxy::Passes;
use metamanager::intake::{CHANGE_QUEUE, Intake, Outlets};
use metamanager::reseal;
use metamanager::sealed::key::KeyError;
use metamanager::sealed::{self, Sealer, Seals};
use metamanager::{Cloud, LinkState, Objects, Outbox, Queries};

/// Time rooms get to finish when the process stops: the longest is that of the link's goodbye.
const DRAIN: Duration = Duration::from_secs(10);

/// How long pods wait for the Kubernetes API of this node when the program starts.
const API: Duration = Duration::from_secs(5);

/// Runs EdgeCore until stopped. A room that ends early takes the process down with its error. Containers go on.
pub(crate) async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    // Before anything of another EdgeCore is touched: two on one folder would run the same pods.
    let _lock = metamanager::database::lock(&settings.database).await?;
    let seals = seals(settings.secrets_key.as_deref()).context("database.secretsKeyFile")?;
    let store = metamanager::database::open(&settings.database)?;
    let (link, link_state) = watch::channel(LinkState::Disconnected);
    let (cloud, calls) = Cloud::channel(link_state.clone());
    let (uplink, streams) = Uplink::channel(link_state);
    let objects = Objects::sealing(store.clone(), seals.clone());
    if let Err(error) = objects.respell().await {
        tracing::warn!(error = %error, "rows of kinds that are called otherwise by now are not found; the cloud sends them again");
    }
    let some_are_shut = reseal::begin(&objects, settings.secrets_key.as_deref()).await;
    if let Err(error) = objects.wipe_owed().await {
        tracing::warn!(error = %error, "copies of secrets that are gone stay in the database's pages");
    }
    let outbox = Outbox::new(store.clone());
    let (reach, mut reached) = watch::channel(None);
    let (services, known) = watch::channel(metamanager::KnownServices::default());
    let queries = Queries::new(objects.clone(), cloud.clone()).reaching(reached.clone()).knowing(known);
    let mut outlets = Outlets::default();
    let (health, metrics) = (Health::default(), Metrics::new("edgecore"));
    let mut rooms = Rooms::new(stop.clone(), health.clone());
    // One for all: the allocator is asked once for what several rooms left.
    let spare = HeapTrimmer::default();
    let doors = Doors::build().context("starting the thread of local programs")?;
    let threads = vec![doors.handle().clone()];
    rooms.optional("service manager", notify::serve(health.clone(), threads, stop.clone()));
    // Held until all rooms run, so that none of them makes the program ready before.
    let starting = health.wait_for("start");
    if store.is_frozen() {
        rooms.essential(
            "database disk",
            metamanager::database::thawed(settings.database.clone(), stop.clone()),
        );
    }
    if some_are_shut {
        let in_step = outlets.in_step.subscribe();
        let forget = reseal::forget(objects.clone(), in_step, stop.clone());
        rooms.optional("old seals", forget.map(Ok::<_, Infallible>));
    }
    let link_metrics = edgehub::Metrics::default();
    metrics::register_link(&metrics, &link_metrics, store.clone(), outbox.clone());
    if let Some(address) = settings.monitor {
        rooms.essential("monitor", monitor(address, &health, &metrics, &doors, stop.clone()).await?);
    }

    let node = settings.hub.node.clone();
    let mut passes = None;
    if let Some(settings) = settings.kubelet {
        let shown = Passes::new(node.as_str()).context("what the kubelet is shown")?;
        let door = kubelet_door(settings, shown.clone(), &doors, stop.clone()).await.context("Node API")?;
        rooms.essential("node api", door);
        passes = Some(shown);
    }
    if let Some(settings) = settings.meta_server {
        let applications = Applications::new(cloud.clone(), node, outlets.pushes.clone());
        let upstream = Arc::new(Way::new(uplink, applications));
        let deps = metaserver::Deps {
            objects: objects.clone(),
            outbox: Some(outbox.clone()),
            seals,
            passes,
            upstream,
            services,
            reach,
        };
        let serving = doors.handle().spawn(metaserver::run(settings, deps, stop.clone()));
        rooms.optional("metaserver", serving);
        // Pods are told of it when they start: they wait for a moment, and start without it otherwise.
        let listens = tokio::time::timeout(API, reached.wait_for(Option::is_some)).await.is_ok();
        tracing::debug!(listens, "MetaServer was waited for");
    }
    if let Some(settings) = settings.edged {
        let (outlet, changes) = mpsc::channel(CHANGE_QUEUE);
        outlets.edged = Some(outlet);
        let deps = edged::Deps {
            objects: objects.clone(),
            queries,
            outbox: outbox.clone(),
            cloud,
            changes,
            health: health.clone(),
            metrics: metrics.clone(),
            in_step: outlets.in_step.subscribe(),
        };
        let edged = Edged::build(settings, deps).await.context("edged")?;
        rooms.essential("edged", edged.run(stop.clone()));
    }
    if let Some(modules) = settings.devices {
        let (outlet, changes) = mpsc::channel(CHANGE_QUEUE);
        outlets.devices = Some(outlet);
        let (bus, handle, incoming) =
            EventBus::build(modules.bus, doors.handle()).await.context("eventbus")?;
        let deps = devicetwin::Deps {
            store,
            objects: objects.clone(),
            outbox: outbox.clone(),
            changes,
            bus: Some(handle.clone()),
            incoming,
            beat: health.beat("devicetwin"),
        };
        let twin = DeviceTwin::build(modules.twin, deps, doors.handle(), stop.clone())
            .await
            .context("devicetwin")?;
        metrics::register_bus(&metrics, handle);
        let bus = bus.showing(health.beat("eventbus")).returning(spare.clone());
        rooms.essential("eventbus", bus.run(stop.clone()));
        rooms.essential("devicetwin", twin.run(stop.clone()));
    }
    if let Some(streams) = settings.streams {
        rooms.essential("edgestream", edgestream::run(streams, stop.clone()));
    }
    // Held to the end: a room whose inbox closes would end before the room that closed it has told its error.
    let _open = outlets.clone();
    let intake = Intake::new(objects, outlets).returning(spare.clone());
    rooms.optional("memory", spare.give_back(stop.clone()).map(Ok::<_, Infallible>));
    let deps = edgehub::Deps { intake, outbox, calls, streams, link };
    rooms.essential("edgehub", EdgeHub::observed(settings.hub, deps, &health, link_metrics).run(stop));
    starting.ready();
    rooms.run(DRAIN).await
}

/// Reads the key of stored secrets, or makes it.
fn seals(file: Option<&Path>) -> Result<Seals, KeyError> {
    let Some(file) = file else { return Ok(Seals::default()) };
    sealed::key::read_or_make(file).map(|key| Seals::with(Sealer::new(&key)))
}

/// Serves probes and Prometheus from the thread of local programs, so that they are told of rooms that hold up the other.
async fn monitor(
    address: SocketAddr,
    health: &Health,
    metrics: &Metrics,
    doors: &Doors,
    stop: CancellationToken,
) -> anyhow::Result<impl Future<Output = Result<(), JoinError>> + use<>> {
    let bound = doors.handle().spawn(Monitor::build(address, health.clone(), metrics.clone())).await?;
    let bound = bound.with_context(|| {
        format!("listening on {address} for probes (commonConfig.monitorServer.bindAddress)")
    })?;
    let serving = doors.handle().spawn(bound.run(stop));
    // It ends when it is stopped only.
    Ok(serving.map_ok(|Ok(())| ()))
}

/// Serves the Node API of a hub from the thread of local programs, as MetaServer is.
async fn kubelet_door(
    settings: kubeletproxy::Settings,
    passes: Passes,
    doors: &Doors,
    stop: CancellationToken,
) -> anyhow::Result<impl Future<Output = Result<(), JoinError>> + use<>> {
    let bound = doors.handle().spawn(async { kubeletproxy::Door::build(settings, passes) }).await??;
    Ok(doors.handle().spawn(bound.run(stop)))
}
