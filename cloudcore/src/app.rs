//! Builds every room, then runs them, then drains. Reads as the start order of CloudCore.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use daemon::health::{Health, Readiness};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cloudhub::material::{self, Trust};
use crate::cloudhub::register::Register;
use crate::cloudhub::{CloudHub, Rooms, UpstreamRoom, VolumeSocket, Volumes};
use crate::devicecontroller::{self, Devices};
use crate::edgecontroller::{self, Downstream, Rights};
use crate::kubernetes::{self, Cluster, Resource, Seen};
use crate::settings::Settings;
use crate::synccontroller::{self, Syncs};

/// Sights a room may have waiting; a watch that is faster waits.
const SIGHT_QUEUE: usize = 256;

/// A token lives for two refreshes, so that the one an operator copied just before a refresh still works.
const TOKEN_LIVES: u32 = 2;

/// Time rooms get to finish when the process stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs CloudCore against a cluster until stopped.
pub async fn run(settings: Settings, cluster: Cluster, stop: CancellationToken) -> anyhow::Result<()> {
    let readiness = Readiness::default();
    let starting = readiness.wait_for("start");
    let tasks = TaskTracker::new();
    if let Some(address) = settings.health {
        let health = Health::build(address, readiness).await;
        let health = health.with_context(|| format!("listening for health checks on {address}"))?;
        tasks.spawn(health.run(stop.clone()));
    }
    kubernetes::install_crds(&cluster).await?;
    let (material, keeper) = material::obtain(&cluster, &settings.material).await?;

    let downstream = Downstream::default();
    let devices = Devices::default();
    let syncs = Syncs::default();
    let rights = Rights::new(downstream.clone(), devices.clone(), cluster.clone());
    let upstream = UpstreamRoom {
        cluster: cluster.clone(),
        downstream: downstream.clone(),
        devices: devices.clone(),
        rights,
        enforce: settings.hub.enforce,
    };
    let volumes = Volumes::new(downstream.clone());
    let socket = settings.volume_socket.as_deref().map(VolumeSocket::bind).transpose()?;
    let rooms = Rooms {
        downstream: downstream.clone(),
        devices: devices.clone(),
        syncs: syncs.clone(),
        volumes: volumes.clone(),
        upstream,
    };
    let hub = CloudHub::build(settings.hub.clone(), &material, rooms).await?;
    let register =
        Register::build(settings.register, &material, hub.handshakes(), cluster.clone(), settings.terms)
            .await?;

    let mut synced = Vec::new();
    let mut watch_into = |resources: &'static [Resource]| {
        let (room, seen) = mpsc::channel::<Seen>(SIGHT_QUEUE);
        for resource in resources {
            tasks.spawn(kubernetes::feed(cluster.clone(), *resource, room.clone(), stop.clone()));
        }
        let (complete, is_complete) = watch::channel(false);
        synced.push(is_complete);
        (seen, complete)
    };
    let (seen, complete) = watch_into(edgecontroller::WATCHED);
    tasks.spawn(downstream.run(seen, complete, stop.clone()));
    let (seen, complete) = watch_into(devicecontroller::WATCHED);
    tasks.spawn(devices.run(cluster.clone(), seen, complete, stop.clone()));
    let (seen, complete) = watch_into(synccontroller::WATCHED);
    tasks.spawn(syncs.clone().run(cluster.clone(), seen, complete, stop.clone()));
    tasks.spawn(keeper.run(settings.certificate_check, stop.clone()));
    tasks.spawn(refresh_tokens(cluster.clone(), material.trust, settings.token_refresh, stop.clone()));
    tasks.spawn(synccontroller::collect_garbage(cluster.clone(), syncs, stop.clone()));

    // An edge that connects to half-filled rooms would be told that its pods are gone.
    let filled = async {
        for mut room in synced {
            let _ = room.wait_for(|complete| *complete).await;
        }
    };
    tokio::select! {
        biased;
        _ = stop.cancelled() => {}
        _ = filled => {
            tasks.spawn(register.run(stop.clone()));
            tasks.spawn(hub.spare().give_back(stop.clone()));
            tasks.spawn(hub.run(stop.clone()));
            if let Some(socket) = socket {
                tasks.spawn(socket.run(volumes, stop.clone()));
            }
            drop(starting);
        }
    }
    stop.cancelled().await;
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        tracing::warn!("rooms did not finish in time and were aborted");
    }
    Ok(())
}

/// Publishes a fresh join token now, every refresh and when another CA signs; tries again soon after a failure.
async fn refresh_tokens(
    cluster: Cluster,
    mut trust: watch::Receiver<Arc<Trust>>,
    refresh: Duration,
    stop: CancellationToken,
) {
    let lifetime = (refresh * TOKEN_LIVES).as_secs() as i64;
    loop {
        let authority = trust.borrow_and_update().authority.clone();
        let wait = match material::publish_token(&cluster, &authority, lifetime).await {
            Ok(()) => refresh,
            Err(error) => {
                tracing::warn!(error = %error, "join token not refreshed, trying again");
                Duration::from_secs(10)
            }
        };
        tokio::select! {
            biased;
            _ = stop.cancelled() => return,
            // A token names the CA that signs.
            changed = trust.changed() => if changed.is_err() { return },
            _ = tokio::time::sleep(wait) => {}
        }
    }
}
