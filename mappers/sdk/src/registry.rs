//! The devices and models this mapper has, and a task per device. All changes are idempotent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dmi::v1beta1::{self as wire, DeviceModel, MapperRegisterResponse};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::device::Device;
use crate::driver::{Driver, DriverError};
use crate::reporter::Reporter;
use crate::task::{Task, Twins};

/// Devices and models kept; a node has far fewer.
const MOST: usize = 10_000;
/// How long the drivers may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(15);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("device or model has no name")]
    NoName,
    #[error("more than {MOST} devices or models")]
    Full,
}

/// Namespace and name.
type Key = (String, String);

/// Older EdgeCores send no namespace (docs/protocol/devices.md 5.7).
fn key(namespace: &str, name: &str) -> Key {
    let namespace = if namespace.is_empty() { "default" } else { namespace };
    (namespace.to_owned(), name.to_owned())
}

struct ServedDevice {
    message: wire::Device,
    latest: watch::Sender<Arc<Device>>,
    twins: Twins,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    devices: BTreeMap<Key, ServedDevice>,
    models: BTreeMap<Key, DeviceModel>,
}

impl State {
    fn model_of(&self, device: &wire::Device) -> Option<&DeviceModel> {
        let reference = &device.spec.as_ref()?.device_model_reference;
        self.models.get(&key(&device.namespace, reference))
    }
}

pub(crate) struct Registry<F> {
    state: Mutex<State>,
    open: Arc<F>,
    reporter: Reporter,
}

impl<F, D> Registry<F>
where
    D: Driver,
    F: Fn(&Device) -> Result<D, DriverError> + Send + Sync + 'static,
{
    pub(crate) fn new(open: F, reporter: Reporter) -> Registry<F> {
        Registry { state: Mutex::default(), open: Arc::new(open), reporter }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what EdgeCore answered a registration. Devices it did not name go on: EdgeCore removes them by name.
    pub(crate) fn apply(&self, answer: MapperRegisterResponse) {
        for model in answer.model_list {
            if let Err(error) = self.put_model(model) {
                tracing::warn!(error = %error, "model ignored");
            }
        }
        for device in answer.device_list {
            if let Err(error) = self.put_device(device) {
                tracing::warn!(error = %error, "device ignored");
            }
        }
    }

    /// Starts the device's task, or gives the running one its new form.
    pub(crate) fn put_device(&self, mut message: wire::Device) -> Result<(), Refused> {
        if message.name.is_empty() {
            return Err(Refused::NoName);
        }
        let key = key(&message.namespace, &message.name);
        message.namespace.clone_from(&key.0);
        self.with(|state| {
            let device = Arc::new(Device::read(&message, state.model_of(&message)));
            if let Some(entry) = state.devices.get_mut(&key) {
                entry.message = message;
                entry.latest.send_if_modified(|latest| {
                    let is_new = *latest != device;
                    *latest = device;
                    is_new
                });
                return Ok(());
            }
            if state.devices.len() >= MOST {
                return Err(Refused::Full);
            }
            let entry = self.start(message, device);
            state.devices.insert(key, entry);
            Ok(())
        })
    }

    fn start(&self, message: wire::Device, device: Arc<Device>) -> ServedDevice {
        tracing::info!(namespace = device.namespace, name = device.name, "device added");
        let (latest, receiver) = watch::channel(device);
        let (twins, stop) = (Twins::default(), CancellationToken::new());
        let task = Task {
            device: receiver,
            open: self.open.clone(),
            reporter: self.reporter.clone(),
            twins: twins.clone(),
            stop: stop.clone(),
        };
        ServedDevice { message, latest, twins, stop, task: tokio::spawn(task.run()) }
    }

    /// Stops the device's task and waits for its driver; an unknown device is gone already.
    pub(crate) async fn remove_device(&self, namespace: &str, name: &str) {
        let Some(entry) = self.with(|state| state.devices.remove(&key(namespace, name))) else { return };
        tracing::info!(namespace, name, "device removed");
        stop([entry]).await;
    }

    /// Keeps the model; devices that use it are read again.
    pub(crate) fn put_model(&self, mut model: DeviceModel) -> Result<(), Refused> {
        if model.name.is_empty() {
            return Err(Refused::NoName);
        }
        let model_key = key(&model.namespace, &model.name);
        model.namespace.clone_from(&model_key.0);
        let users = self.with(|state| {
            if state.models.len() >= MOST && !state.models.contains_key(&model_key) {
                return Err(Refused::Full);
            }
            let reference = model_key.1.clone();
            state.models.insert(model_key.clone(), model);
            let uses = |message: &wire::Device| {
                message.namespace == model_key.0
                    && message.spec.as_ref().is_some_and(|spec| spec.device_model_reference == reference)
            };
            let messages = state.devices.values().map(|entry| &entry.message);
            Ok(messages.filter(|message| uses(message)).cloned().collect::<Vec<_>>())
        })?;
        users.into_iter().try_for_each(|device| self.put_device(device))
    }

    pub(crate) fn remove_model(&self, namespace: &str, name: &str) {
        self.with(|state| state.models.remove(&key(namespace, name)));
    }

    /// The device as EdgeCore sent it, with the last reported twins.
    pub(crate) fn device(&self, namespace: &str, name: &str) -> Option<wire::Device> {
        self.with(|state| {
            let entry = state.devices.get(&key(namespace, name))?;
            let mut device = entry.message.clone();
            let twins = entry.twins.lock().unwrap_or_else(PoisonError::into_inner);
            device.status.get_or_insert_default().twins = twins.values().cloned().collect();
            Some(device)
        })
    }

    /// Stops all devices.
    pub(crate) async fn stop(&self) {
        stop(self.with(|state| std::mem::take(&mut state.devices)).into_values()).await;
    }
}

async fn stop(entries: impl IntoIterator<Item = ServedDevice>) {
    let tasks: Vec<_> = entries
        .into_iter()
        .map(|entry| {
            entry.stop.cancel();
            entry.task
        })
        .collect();
    let deadline = tokio::time::Instant::now() + STOP_WITHIN;
    for mut task in tasks {
        match tokio::time::timeout_at(deadline, &mut task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = %error, "a device's task ended early"),
            Err(_) => {
                task.abort();
                tracing::warn!("a driver did not stop in time");
            }
        }
    }
}
