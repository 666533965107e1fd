//! The intake: takes changes from EdgeHub, commits them, hands them on, and only then lets them be acknowledged.

use daemon::memory::HeapTrimmer;
use message::ObjectKind;
use store::StoreError;
use tokio::sync::{mpsc, watch};

use super::objects::Arrival;
use super::pushes::{Pushed, Pushes};
use super::{ObjectChange, Objects};

/// Where committed changes go. Each room sees only its kinds; a module that is off has no outlet.
#[derive(Clone, Default)]
pub struct Outlets {
    /// Pods, config maps, secrets, the node.
    pub edged: Option<mpsc::Sender<ObjectChange>>,
    /// Devices and device models.
    pub devices: Option<mpsc::Sender<ObjectChange>>,
    /// True once the cloud has said, since this process started, that the node has all it should have. It comes after the
    /// changes that made it so.
    pub in_step: watch::Sender<bool>,
    /// What a KubeEdge cloud sends of what is watched here.
    pub pushes: Pushes,
}

/// Changes a room may have waiting: it keeps the link's reader from running ahead of a busy room, and a burst of
/// config maps fits.
pub const CHANGE_QUEUE: usize = 256;

/// Handle of the intake.
#[derive(Clone)]
pub struct Intake {
    objects: Objects,
    outlets: Outlets,
    spare: HeapTrimmer,
}

impl Intake {
    pub fn new(objects: Objects, outlets: Outlets) -> Intake {
        Intake { objects, outlets, spare: HeapTrimmer::default() }
    }

    /// Commits `arrivals` in one transaction and hands on those that changed something. After it returns, all of them
    /// may be acknowledged but those whose places it gives back: their difference fits no stored text.
    pub async fn commit(&self, arrivals: Vec<Arrival>) -> Result<Vec<usize>, StoreError> {
        let committed = self.objects.commit(arrivals).await?;
        self.spare.note();
        for change in committed.changed {
            let outlet = match change.key.kind {
                ObjectKind::Pod | ObjectKind::ConfigMap | ObjectKind::Secret | ObjectKind::Node => {
                    &self.outlets.edged
                }
                ObjectKind::Device | ObjectKind::DeviceModel => &self.outlets.devices,
                _ => continue,
            };
            if let Some(outlet) = outlet {
                // A closed outlet belongs to a process that is stopping.
                let _ = outlet.send(change).await;
            }
        }
        Ok(committed.base_missing)
    }

    /// A KubeEdge cloud sent an object, which is committed if it is the node's own.
    pub fn pushed(&self, pushed: Pushed) {
        self.outlets.pushes.tell(pushed);
    }

    /// The cloud says that nothing is missing.
    pub fn in_step(&self) {
        self.outlets.in_step.send_replace(true);
    }

    /// Something else of the session used memory that is free again.
    pub fn note_freed(&self) {
        self.spare.note();
    }

    /// Commits use memory; `spare` is told of them.
    pub fn returning(self, spare: HeapTrimmer) -> Intake {
        Intake { spare, ..self }
    }

    /// The objects it commits to.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Body;
    use message::{Json, ObjectKey, ResourceVersion};

    fn put(name: usize) -> Arrival {
        let key = ObjectKey::new(Some("d"), ObjectKind::ConfigMap, &name.to_string());
        let object = Json::from_text("{}".to_owned()).unwrap();
        Arrival { key, mark: 1, body: Body::Put { version: ResourceVersion("1".to_owned()), object } }
    }

    #[tokio::test]
    async fn a_module_that_is_off_holds_up_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::new(crate::database::open(&folder.path().join("e.db")).unwrap());
        let intake = Intake::new(objects.clone(), Outlets::default());
        intake.commit((0..CHANGE_QUEUE * 2).map(put).collect()).await.unwrap();
        assert_eq!(objects.list(&ObjectKind::ConfigMap).await.unwrap().len(), CHANGE_QUEUE * 2);
    }
}
