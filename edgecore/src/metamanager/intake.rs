//! The intake: takes changes from EdgeHub, commits them, hands them on, and only then lets them be acknowledged.

use message::ObjectKind;
use store::StoreError;
use tokio::sync::mpsc;

use super::{ObjectChange, Objects};

/// Where committed changes go. Each room sees only its kinds.
#[derive(Clone)]
pub struct Outlets {
    /// Pods, config maps, secrets.
    pub edged: mpsc::Sender<ObjectChange>,
    /// Devices and device models.
    pub devices: mpsc::Sender<ObjectChange>,
}

/// Changes a room may have waiting: it keeps the link's reader from running ahead of a busy room, and a burst of
/// config maps fits.
pub const CHANGE_QUEUE: usize = 256;

/// Handle of the intake.
#[derive(Clone)]
pub struct Intake {
    objects: Objects,
    outlets: Outlets,
}

impl Intake {
    pub fn new(objects: Objects, outlets: Outlets) -> Intake {
        Intake { objects, outlets }
    }

    /// Commits `changes` in one transaction and hands on those that changed something. After it returns, all of them
    /// may be acknowledged.
    pub async fn commit(&self, changes: Vec<ObjectChange>) -> Result<(), StoreError> {
        for change in self.objects.apply(changes).await? {
            let outlet = match change.key.kind {
                ObjectKind::Pod | ObjectKind::ConfigMap | ObjectKind::Secret => &self.outlets.edged,
                ObjectKind::Device | ObjectKind::DeviceModel => &self.outlets.devices,
                _ => continue,
            };
            // A closed outlet belongs to a module that is off, or to a process that is stopping.
            let _ = outlet.send(change).await;
        }
        Ok(())
    }
}
