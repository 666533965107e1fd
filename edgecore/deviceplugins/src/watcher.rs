//! Follows what one plugin says of its devices.

use std::sync::Arc;

use plugins::device::device_plugin_client::DevicePluginClient;
use plugins::device::{Device, Empty, ListAndWatchResponse};
use tonic::transport::Channel;

use super::Deps;
use super::GRACE;
use super::inventory::KnownDevices;

const HEALTHY: &str = "Healthy";
/// More devices than any plugin has; what is beyond is not taken.
const DEVICES: usize = 10_000;

/// Reads the plugin's list until it ends. Then nothing of it can be given; and when it has not registered again after
/// a while, there is nothing of it any more. Aborted when the plugin registers again.
pub(super) async fn follow(deps: Arc<Deps>, resource: String, mut client: DevicePluginClient<Channel>) {
    match client.list_and_watch(Empty {}).await {
        Ok(answer) => {
            let mut lists = answer.into_inner();
            while let Ok(Some(list)) = lists.message().await {
                take(&deps, &resource, list).await;
            }
            tracing::warn!(name = %resource, "device plugin is away");
        }
        Err(error) => {
            tracing::warn!(name = %resource, error = %error.message(), "device plugin does not list its devices");
        }
    }
    deps.devices.inventory().mark_unhealthy(&resource);
    deps.devices.offer(&deps.capacity, &resource);
    tokio::time::sleep(GRACE).await;
    forget(&deps, &resource).await;
}

async fn take(deps: &Deps, resource: &str, list: ListAndWatchResponse) {
    let known: KnownDevices =
        list.devices.into_iter().take(DEVICES).map(|Device { id, health }| (id, health == HEALTHY)).collect();
    tracing::debug!(name = %resource, devices = known.len(), "devices listed");
    deps.devices.inventory().set(resource, known);
    deps.devices.offer(&deps.capacity, resource);
    deps.board.retry();
    keep(deps).await;
}

async fn forget(deps: &Deps, resource: &str) {
    deps.devices.plugins().remove(resource);
    deps.devices.inventory().set(resource, KnownDevices::new());
    deps.devices.offer(&deps.capacity, resource);
    keep(deps).await;
}

async fn keep(deps: &Deps) {
    if let Err(error) = deps.devices.keep().await {
        tracing::warn!(error = %error, "device checkpoint not written");
    }
}

/// Resources of the checkpoint whose plugins did not come back after a start are no more.
pub(super) async fn forget_silent(deps: Arc<Deps>) {
    tokio::time::sleep(GRACE).await;
    let silent: Vec<String> = {
        let registered = deps.devices.plugins();
        let known = deps.devices.inventory().names();
        known.into_iter().filter(|name| !registered.contains_key(name)).collect()
    };
    for resource in silent {
        forget(&deps, &resource).await;
    }
    std::future::pending::<()>().await;
}
