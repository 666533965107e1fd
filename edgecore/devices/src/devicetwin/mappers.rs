//! The mappers of this node: one per protocol, what each must still be told, and the task that tells it.
//!
//! ```text
//! absent --MapperRegister--> known (told everything in the answer)
//! known --device or model changed--> dirty --call ok--> known
//!                                      ^ call failed: again after a while
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dmi::v1beta1::{Device, DeviceModel};
use dmi::{DmiCallError, Mapper};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// One thing a mapper must be told. Newest wins per object.
#[derive(Clone, Debug)]
pub enum MapperUpdate {
    Model(DeviceModel),
    NoModel { namespace: String, name: String },
    Device { device: Device, new: bool },
    NoDevice { namespace: String, name: String },
}

impl MapperUpdate {
    /// Models go first: a device needs its model.
    fn key(&self) -> (u8, String) {
        match self {
            MapperUpdate::Model(model) => (0, format!("model {}/{}", model.namespace, model.name)),
            MapperUpdate::NoModel { namespace, name } => (0, format!("model {namespace}/{name}")),
            MapperUpdate::Device { device, .. } => {
                (1, format!("device {}/{}", device.namespace, device.name))
            }
            MapperUpdate::NoDevice { namespace, name } => (1, format!("device {namespace}/{name}")),
        }
    }
}

#[derive(Default)]
struct Known {
    address: PathBuf,
    waiting: BTreeMap<(u8, String), MapperUpdate>,
    running: bool,
}

/// Handle of all mappers.
#[derive(Clone)]
pub struct Mappers {
    known: Arc<Mutex<HashMap<String, Known>>>,
    changed: Arc<Notify>,
    stop: CancellationToken,
}

/// A mapper opens its own socket only after its registration was answered.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);

impl Mappers {
    pub fn new(stop: CancellationToken) -> Mappers {
        Mappers { known: Arc::default(), changed: Arc::new(Notify::new()), stop }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A mapper registered: it serves `protocol` at `address` and was given everything, so nothing waits for it.
    pub fn registered(&self, protocol: &str, address: PathBuf) {
        let mut known = self.lock();
        let mapper = known.entry(protocol.to_owned()).or_default();
        mapper.address = address;
        mapper.waiting.clear();
    }

    /// The mapper of `protocol` is gone for good.
    pub fn forget(&self, protocol: &str) {
        self.lock().remove(protocol);
    }

    /// Something changed for the devices of `protocol`. Without a mapper nothing is kept: a registration gets all.
    pub fn tell(&self, protocol: &str, tell: MapperUpdate) {
        let mut known = self.lock();
        let Some(mapper) = known.get_mut(protocol) else { return };
        let key = tell.key();
        let tell = match (mapper.waiting.get(&key), tell) {
            // A device the mapper has not heard of yet stays new.
            (Some(MapperUpdate::Device { new: true, .. }), MapperUpdate::Device { device, .. }) => {
                MapperUpdate::Device { device, new: true }
            }
            (_, tell) => tell,
        };
        mapper.waiting.insert(key, tell);
        if !mapper.running {
            mapper.running = true;
            tokio::spawn(self.clone().run(protocol.to_owned()));
        }
        drop(known);
        self.changed.notify_waiters();
    }

    /// Tells one mapper until nothing waits.
    async fn run(self, protocol: String) {
        let mut retry = FIRST_RETRY;
        while let Some((address, key, tell)) = self.next(&protocol) {
            let result = call(&Mapper::at(&address), &tell).await;
            match result {
                Ok(()) => retry = FIRST_RETRY,
                Err(error) if error.is_retryable() => {
                    tracing::warn!(protocol, what = key.1, error = %error, "mapper not reached, trying again");
                    self.put_back(&protocol, key, tell);
                    tokio::select! {
                        biased;
                        _ = self.stop.cancelled() => return,
                        _ = tokio::time::sleep(retry) => retry = (retry * 2).min(LAST_RETRY),
                    }
                }
                Err(error) => tracing::warn!(protocol, what = key.1, error = %error, "mapper refused"),
            }
        }
    }

    fn next(&self, protocol: &str) -> Option<(PathBuf, (u8, String), MapperUpdate)> {
        let mut known = self.lock();
        let mapper = known.get_mut(protocol)?;
        match mapper.waiting.pop_first() {
            Some((key, tell)) => Some((mapper.address.clone(), key, tell)),
            None => {
                mapper.running = false;
                None
            }
        }
    }

    /// Unless something newer waits by now.
    fn put_back(&self, protocol: &str, key: (u8, String), tell: MapperUpdate) {
        if let Some(mapper) = self.lock().get_mut(protocol) {
            mapper.waiting.entry(key).or_insert(tell);
        }
    }
}

async fn call(mapper: &Mapper, tell: &MapperUpdate) -> Result<(), DmiCallError> {
    match tell {
        // An update of an unknown model is refused: then it is new.
        MapperUpdate::Model(model) => match mapper.update_model(model.clone()).await {
            Err(error) if !error.is_retryable() => mapper.create_model(model.clone()).await,
            other => other,
        },
        MapperUpdate::NoModel { namespace, name } => gone(mapper.remove_model(namespace, name).await),
        MapperUpdate::Device { device, new: true } => mapper.register_device(device.clone()).await,
        MapperUpdate::Device { device, new: false } => mapper.update_device(device.clone()).await,
        MapperUpdate::NoDevice { namespace, name } => gone(mapper.remove_device(namespace, name).await),
    }
}

/// Mappers answer an error for what they do not have: it is gone all the same.
fn gone(result: Result<(), DmiCallError>) -> Result<(), DmiCallError> {
    match result {
        Err(error) if !error.is_retryable() => Ok(()),
        other => other,
    }
}
