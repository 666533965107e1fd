//! Device plugins: programs that offer devices as extended resources, and say what a container needs to use them.
//!
//! ```text
//! plugin --Register--> kubelet.sock --> watcher(resource): ListAndWatch --> inventory --> the node's capacity
//! pod's worker --claim--> inventory chooses --Allocate--> plugin --> checkpoint --> the container's configuration
//! ```
//!
//! Owns `<root>/device-plugins/kubelet.sock` and `kubelet_internal_checkpoint`. Promises: a device belongs to one pod
//! at a time; what a pod was given is on disk before its first container starts, and it keeps that over restarts.
//! Source: docs/protocol/edge-runtime.md 5.23.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait for nobody else"))]

mod checkpoint;
mod claim;
pub mod inventory;
mod register;
mod watcher;

use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plugins::device::DevicePluginOptions;
use plugins::device::device_plugin_client::DevicePluginClient;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

pub use claim::{ClaimError, DeviceAllocation, Need, needs};
use inventory::Inventory;
use nodestatus::capacity::Capacity;
use podmodel::board::Board;
use podmodel::errors::chain;
use volumes::mounts;

/// A plugin that is away keeps its resource this long: it may be starting again.
const GRACE: Duration = Duration::from_secs(300);
/// Before the socket of device plugins is made again, should that have failed.
const AGAIN: Duration = Duration::from_secs(30);
/// Calls that choose or prepare devices.
const ANSWER: Duration = Duration::from_secs(30);

/// Handle of the node's devices.
pub struct PluginDevices {
    folder: PathBuf,
    inventory: Mutex<Inventory>,
    plugins: Mutex<HashMap<String, Plugin>>,
    /// Claims are made one by one, so that two never choose the same device.
    claiming: tokio::sync::Mutex<()>,
}

/// A plugin that is there.
struct Plugin {
    client: DevicePluginClient<Channel>,
    options: DevicePluginOptions,
    watcher: AbortHandle,
}

impl PluginDevices {
    /// `root` is the kubelet's folder.
    pub fn new(root: &Path) -> PluginDevices {
        PluginDevices {
            folder: root.join("device-plugins"),
            inventory: Mutex::default(),
            plugins: Mutex::default(),
            claiming: tokio::sync::Mutex::default(),
        }
    }

    /// Takes over what was known before this start. A checkpoint that cannot be read counts as none.
    pub fn load(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            let folder = self.folder.clone();
            let known = daemon::blocking(move || {
                mounts::make_dir(&folder, 0o750)?;
                checkpoint::read(&folder)
            });
            match known.await {
                Ok(known) => *self.inventory() = known,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::warn!(error = %error, "what pods were given of devices is not known any more");
                }
                Err(error) => return Err(error),
            }
            Ok(())
        })
    }

    fn inventory(&self) -> MutexGuard<'_, Inventory> {
        self.inventory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plugins(&self) -> MutexGuard<'_, HashMap<String, Plugin>> {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plugin(&self, resource: &str) -> Option<(DevicePluginClient<Channel>, DevicePluginOptions)> {
        self.plugins().get(resource).map(|plugin| (plugin.client.clone(), plugin.options))
    }

    async fn keep(&self) -> io::Result<()> {
        let (folder, bytes) = (self.folder.clone(), checkpoint::encode(&self.inventory())?);
        daemon::blocking(move || checkpoint::write(&folder, &bytes)).await
    }

    /// Tells the node what there is of a resource now.
    fn offer(&self, capacity: &Capacity, resource: &str) {
        capacity.offer(resource, self.inventory().amount(resource));
    }
}

/// What the room tells.
pub struct Deps {
    pub devices: Arc<PluginDevices>,
    pub capacity: Arc<Capacity>,
    pub board: Board,
}

/// Serves registrations until `stop`.
pub fn run(deps: Deps, stop: CancellationToken) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let deps = Arc::new(deps);
        // What the checkpoint names is not offered before its plugin is back: the API keeps the last amounts meanwhile, and
        // pods wait instead of being refused.
        let devices = deps.devices.clone();
        let grace = watcher::forget_silent(deps.clone());
        let served = async {
            loop {
                match register::serve(deps.clone(), stop.clone()).await {
                    Ok(()) => return,
                    Err(error) => tracing::error!(error = %chain(&error), "device plugins cannot register"),
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        tokio::select! {
            biased;
            _ = stop.cancelled() => {}
            _ = async { tokio::join!(served, grace) } => {}
        }
        devices.plugins().drain().for_each(|(_, plugin)| plugin.watcher.abort());
    })
}
