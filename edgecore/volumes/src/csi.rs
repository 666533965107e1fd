//! Volumes of CSI drivers: staged once per node, published once per pod, and taken back in the reverse order, also
//! after a restart and without the cloud: what that needs lies in `vol_data.json` beside the mount.
//!
//! ```text
//! plugins_registry --registry--> drivers     claim --> stage (globalmount) --> publish (pod's folder) --> containers
//!                                            pod gone --> unpublish --> unstage, when no other pod has the volume
//! ```
//!
//! Owns `<root>/plugins/kubernetes.io/csi` and the folders `kubernetes.io~csi` of pods. Source:
//! docs/protocol/edge-runtime.md 5.22.

mod calls;
mod names;
mod record;
pub mod registry;
mod volume;

use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use super::mounts;
use calls::{Driver, DriverCallError};
use record::Record;
pub use volume::CsiVolume;

#[derive(Debug, thiserror::Error)]
pub enum CsiError {
    #[error("CSI driver {driver:?} is not registered on this node")]
    NotRegistered { driver: String },
    #[error("CSI driver {driver:?} is still busy with the volume")]
    Busy { driver: String },
    #[error("CSI driver {driver:?}")]
    Call { driver: String, source: DriverCallError },
    #[error("the volume's attachment {name:?}")]
    Attachment { name: String, source: Box<metamanager::QueryError> },
    #[error("the volume is not attached to this node yet (VolumeAttachment {name:?})")]
    NotAttached { name: String },
    #[error("secret {name:?} of the volume")]
    Secret { name: String, source: Box<metamanager::QueryError> },
    #[error("secret {name:?} of the volume cannot be read as one")]
    BadSecret { name: String },
    #[error("keeping what is known of the volume at {path}")]
    Disk { path: PathBuf, source: io::Error },
}

/// Handle of the drivers of this node.
pub struct Csi {
    root: PathBuf,
    /// Name of a driver -> its socket.
    drivers: Mutex<BTreeMap<String, PathBuf>>,
    /// One pair of hands per volume.
    hands: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Csi {
    /// `root` is the kubelet's folder.
    pub fn new(root: &Path) -> Csi {
        Csi { root: root.to_owned(), drivers: Mutex::default(), hands: Mutex::default() }
    }

    fn register(&self, name: &str, socket: PathBuf) {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), socket);
    }

    fn forget(&self, name: &str, socket: &Path) {
        let mut drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        if drivers.get(name).is_some_and(|known| known == socket) {
            drivers.remove(name);
        }
    }

    fn driver(&self, name: &str) -> Result<Driver, CsiError> {
        let drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = drivers.get(name).ok_or_else(|| CsiError::NotRegistered { driver: name.to_owned() })?;
        Ok(Driver::at(socket))
    }

    /// Staging and unstaging a volume never overlap. Who waits behind a driver that hangs gives up and comes again.
    async fn hands_on(&self, driver: &str, handle: &str) -> Result<OwnedMutexGuard<()>, CsiError> {
        let waiting = self.hand(driver, handle).lock_owned();
        let busy = |_| CsiError::Busy { driver: driver.to_owned() };
        tokio::time::timeout(calls::DEADLINE, waiting).await.map_err(busy)
    }

    fn hand(&self, driver: &str, handle: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        hands.retain(|_, hand| hand.strong_count() > 0);
        let key = format!("{driver}^{handle}");
        if let Some(hand) = hands.get(&key).and_then(Weak::upgrade) {
            return hand;
        }
        let hand = Arc::new(tokio::sync::Mutex::new(()));
        hands.insert(key, Arc::downgrade(&hand));
        hand
    }

    /// Makes the volume visible at the pod's folder; true if it was not before. Called again, it does what is missing.
    pub(super) async fn publish(&self, wanted: &CsiVolume) -> Result<(PathBuf, bool), CsiError> {
        let folder = wanted.folder.clone();
        let target = folder.join("mount");
        if is_there(&folder, &target).await.map_err(disk(&folder))? {
            return Ok((target, false));
        }
        let driver = self.driver(&wanted.driver)?;
        let _held = self.hands_on(&wanted.driver, &wanted.handle).await?;
        let call = |source| CsiError::Call { driver: wanted.driver.clone(), source };
        let abilities = driver.abilities().await.map_err(call)?;
        let record = Record::of_pod(wanted);
        write(&folder, &record).await?;
        let mut staging = None;
        if abilities.stages && !wanted.is_inline {
            let stage = names::stage(&self.root, &wanted.driver, &wanted.handle);
            let at = stage.join("globalmount");
            make(&at).await?;
            write(&stage, &Record::of_stage(wanted)).await?;
            driver.stage(wanted, &at, &abilities).await.map_err(call)?;
            staging = Some(at);
        }
        driver.publish(wanted, staging.as_deref(), &target, &abilities).await.map_err(call)?;
        write(&folder, &Record { is_published: true, ..record }).await?;
        Ok((target, !abilities.sets_group))
    }

    /// Takes back all volumes of a pod; done if it has none.
    pub fn unpublish_all<'a>(&'a self, pod_dir: &'a Path) -> BoxFuture<'a, Result<(), CsiError>> {
        Box::pin(async move {
            let volumes = pod_dir.join("volumes/kubernetes.io~csi");
            let folders = volumes.clone();
            let folders =
                daemon::blocking(move || record::folders(&folders)).await.map_err(disk(&volumes))?;
            for folder in folders {
                self.unpublish(&folder).await?;
            }
            Ok(())
        })
    }

    async fn unpublish(&self, folder: &Path) -> Result<(), CsiError> {
        let at = folder.to_owned();
        let Some(record) = daemon::blocking(move || Record::read(&at)).await.map_err(disk(folder))? else {
            // A folder without a record was never given to a driver.
            return Ok(());
        };
        let driver = self.driver(&record.driver_name)?;
        let _held = self.hands_on(&record.driver_name, &record.volume_handle).await?;
        let call = |source| CsiError::Call { driver: record.driver_name.clone(), source };
        let target = folder.join("mount");
        driver.unpublish(&record.volume_handle, &target).await.map_err(call)?;
        let at = folder.to_owned();
        daemon::blocking(move || record::remove(&at, "mount")).await.map_err(disk(folder))?;
        let stage = names::stage(&self.root, &record.driver_name, &record.volume_handle);
        let (root, known, place) = (self.root.clone(), record.clone(), stage.clone());
        let is_used = move || Ok(!mounts::is_folder(&place) || record::is_used(&root, &known)?);
        if daemon::blocking(is_used).await.map_err(disk(&stage))? {
            return Ok(());
        }
        let at = stage.join("globalmount");
        driver.unstage(&record.volume_handle, &at).await.map_err(call)?;
        let place = stage.clone();
        daemon::blocking(move || record::remove(&place, "globalmount")).await.map_err(disk(&stage))
    }
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> CsiError {
    move |source| CsiError::Disk { path: path.to_owned(), source }
}

/// Published, and not lost in a reboot since.
async fn is_there(folder: &Path, target: &Path) -> io::Result<bool> {
    let (folder, target) = (folder.to_owned(), target.to_owned());
    daemon::blocking(move || {
        let is_published = Record::read(&folder)?.is_some_and(|record| record.is_published);
        Ok(is_published && mounts::is_mounted(&target)?)
    })
    .await
}

async fn write(folder: &Path, record: &Record) -> Result<(), CsiError> {
    let (at, record) = (folder.to_owned(), record.clone());
    daemon::blocking(move || record.write(&at)).await.map_err(disk(folder))
}

async fn make(folder: &Path) -> Result<(), CsiError> {
    let at = folder.to_owned();
    daemon::blocking(move || mounts::make_dir(&at, 0o750)).await.map_err(disk(folder))
}
