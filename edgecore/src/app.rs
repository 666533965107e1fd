//! Builds every room, then runs them, then drains. Reads as the start order of EdgeCore.

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::devicetwin::{self, DeviceTwin};
use crate::doors::Doors;
use crate::edged::{self, Edged};
use crate::edgehub::{self, EdgeHub};
use crate::eventbus::EventBus;
use crate::metamanager::intake::{CHANGE_QUEUE, Intake, Outlets};
use crate::metamanager::{Cloud, LinkState, Objects, Outbox, Queries};
use crate::settings::Settings;

/// Runs EdgeCore until stopped. A room that ends early takes the process down with its error. Containers go on.
pub async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let store = crate::database::open(&settings.database)?;
    let (link, link_state) = watch::channel(LinkState::Disconnected);
    let (cloud, calls) = Cloud::channel(link_state);
    let objects = Objects::new(store.clone());
    let outbox = Outbox::new(store.clone());
    let queries = Queries::new(objects.clone(), cloud.clone());
    let mut outlets = Outlets::default();
    let mut rooms: JoinSet<Ended> = JoinSet::new();
    let doors = Doors::build().context("starting the thread of local programs")?;

    if let Some(settings) = settings.edged {
        let (outlet, changes) = mpsc::channel(CHANGE_QUEUE);
        outlets.edged = Some(outlet);
        let deps = edged::Deps { objects: objects.clone(), queries, outbox: outbox.clone(), cloud, changes };
        let edged = Edged::build(settings, deps).await.context("edged")?;
        let stop = stop.clone();
        rooms.spawn(async move { ("edged", edged.run(stop).await.context("edged")) });
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
            bus: Some(handle),
            incoming,
        };
        let twin = DeviceTwin::build(modules.twin, deps, doors.handle(), stop.clone())
            .await
            .context("devicetwin")?;
        let (bus_stop, twin_stop) = (stop.clone(), stop.clone());
        rooms.spawn(async move { ("eventbus", bus.run(bus_stop).await.context("eventbus")) });
        rooms.spawn(async move { ("devicetwin", twin.run(twin_stop).await.context("devicetwin")) });
    }
    // Held to the end: a room whose inbox closes would end before the room that closed it has told its error.
    let _open = outlets.clone();
    let intake = Intake::new(objects, outlets);
    tokio::spawn(intake.spare().give_back(stop.clone()));
    let deps = edgehub::Deps { intake, outbox, calls, link };
    let hub = EdgeHub::build(settings.hub, deps);
    let hub_stop = stop.clone();
    rooms.spawn(async move { ("edgehub", hub.run(hub_stop).await.context("edgehub")) });

    let first = rooms.join_next().await;
    let early = !stop.is_cancelled();
    stop.cancel();
    let mut result = outcome(first, early);
    while let Some(ended) = rooms.join_next().await {
        result = result.and(outcome(Some(ended), false));
    }
    result
}

/// A room's name and how it ended.
type Ended = (&'static str, anyhow::Result<()>);

fn outcome(ended: Option<Result<Ended, tokio::task::JoinError>>, early: bool) -> anyhow::Result<()> {
    match ended {
        None => Ok(()),
        Some(Ok((room, Ok(())))) if early => Err(anyhow::anyhow!("{room} ended without being asked to")),
        Some(Ok((_, result))) => result,
        Some(Err(panic)) => Err(panic).context("a room panicked"),
    }
}
