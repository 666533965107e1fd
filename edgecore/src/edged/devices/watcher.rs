//! Follows what one plugin says of its devices.

use std::sync::Arc;

use plugins::device::device_plugin_client::DevicePluginClient;
use plugins::device::{Device, Empty, ListAndWatchResponse};
use tonic::transport::Channel;

use super::GRACE;
use super::inventory::Known;
use crate::edged::context::Context;

const HEALTHY: &str = "Healthy";
/// More devices than any plugin has; what is beyond is not taken.
const DEVICES: usize = 10_000;

/// Reads the plugin's list until it ends. Then nothing of it can be given; and when it has not registered again after
/// a while, there is nothing of it any more. Aborted when the plugin registers again.
pub async fn follow(context: Arc<Context>, resource: String, mut client: DevicePluginClient<Channel>) {
    match client.list_and_watch(Empty {}).await {
        Ok(answer) => {
            let mut lists = answer.into_inner();
            while let Ok(Some(list)) = lists.message().await {
                take(&context, &resource, list).await;
            }
            tracing::warn!(name = %resource, "device plugin is away");
        }
        Err(error) => {
            tracing::warn!(name = %resource, error = %error.message(), "device plugin does not list its devices");
        }
    }
    context.devices.inventory().mark_unhealthy(&resource);
    context.devices.offer(&context, &resource);
    tokio::time::sleep(GRACE).await;
    forget(&context, &resource).await;
}

async fn take(context: &Context, resource: &str, list: ListAndWatchResponse) {
    let known: Known =
        list.devices.into_iter().take(DEVICES).map(|Device { id, health }| (id, health == HEALTHY)).collect();
    tracing::debug!(name = %resource, devices = known.len(), "devices listed");
    context.devices.inventory().set(resource, known);
    context.devices.offer(context, resource);
    context.board.retry();
    keep(context).await;
}

async fn forget(context: &Context, resource: &str) {
    context.devices.plugins().remove(resource);
    context.devices.inventory().set(resource, Known::new());
    context.devices.offer(context, resource);
    keep(context).await;
}

async fn keep(context: &Context) {
    if let Err(error) = context.devices.keep().await {
        tracing::warn!(error = %error, "device checkpoint not written");
    }
}

/// Resources of the checkpoint whose plugins did not come back after a start are no more.
pub async fn forget_silent(context: Arc<Context>) {
    tokio::time::sleep(GRACE).await;
    let silent: Vec<String> = {
        let registered = context.devices.plugins();
        let known = context.devices.inventory().names();
        known.into_iter().filter(|name| !registered.contains_key(name)).collect()
    };
    for resource in silent {
        forget(&context, &resource).await;
    }
    std::future::pending::<()>().await;
}
