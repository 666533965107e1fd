//! Volumes of pods, under `<root>/pods/<uid>/volumes/<plugin>/<name>` (docs/protocol/edge-runtime.md 5.10).
//!
//! `prepare` may be called again and again: it makes what is missing and rewrites files whose source changed.
//! `tear_down` never deletes below something that is still mounted. [`tree`] and [`changes`] are for other rooms as well:
//! walking folders that pods write to, and noticing that a folder changes.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait for nobody else"))]

pub mod atomic;
pub mod changes;
mod claims;
pub mod container_mounts;
pub mod csi;
pub mod host_path;
mod hugepages;
pub mod mounts;
mod nfs;
mod ownership;
mod payload;
mod persistent;
mod subpath;
pub mod tree;

use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, PodSpec, Volume};

use metamanager::Queries;
use podmodel::fields::NodeFacts;
use podmodel::quantity;
use podmodel::resources;

pub use payload::PayloadError;

/// What a pod's containers can mount.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    pub paths: BTreeMap<String, PathBuf>,
    /// Volumes that are devices.
    pub devices: BTreeMap<String, PathBuf>,
    /// Volumes no container may write to, whatever its mounts say: those whose files are the API's, and read-only ones.
    pub read_only: BTreeSet<String>,
    /// When a service-account token has to be replaced.
    pub refresh_at: Option<Timestamp>,
}

/// One volume, made.
struct Made {
    path: PathBuf,
    is_device: bool,
    is_read_only: bool,
}

impl Made {
    fn folder(path: PathBuf) -> Made {
        Made { path, is_device: false, is_read_only: false }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("volume {volume:?} is of a kind this node does not support")]
    Unsupported { volume: String },
    #[error("filling volume {volume:?}")]
    Payload { volume: String, source: PayloadError },
    #[error("writing volume {volume:?} at {path}")]
    Write { volume: String, path: PathBuf, source: std::io::Error },
    #[error("host path of volume {volume:?}")]
    HostPath { volume: String, source: host_path::HostPathError },
    #[error("claim of volume {volume:?}")]
    Claim { volume: String, source: claims::ClaimError },
    #[error(
        "volume {volume:?} is a block device of a kind other than local, which this node does not support"
    )]
    Block { volume: String },
    #[error(
        "volume {volume:?} asks for huge pages of a size that is not clear from its medium and the containers"
    )]
    PageSize { volume: String },
    #[error("NFS share of volume {volume:?}")]
    Nfs { volume: String, source: nfs::NfsError },
    #[error("volume {volume:?}")]
    Csi { volume: String, source: Box<csi::CsiError> },
}

/// The folder of a pod.
pub fn pod_dir(root: &Path, uid: &str) -> PathBuf {
    root.join("pods").join(uid)
}

fn volume_dir(root: &Path, uid: &str, plugin: &str, name: &str) -> PathBuf {
    pod_dir(root, uid).join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
}

/// What volumes are made from.
pub struct VolumeContext<'a> {
    pub root: &'a Path,
    pub queries: &'a Queries,
    pub csi: &'a csi::Csi,
    pub place: &'a NodeFacts,
    /// Bytes the node has for pods.
    pub allocatable_memory: i64,
    pub pod: &'a Pod,
    pub spec: &'a PodSpec,
}

/// Size of an emptyDir in memory where the node does not know how much memory it has: 64 MiB.
const UNKNOWN_MEMORY: u64 = 64 << 20;

impl VolumeContext<'_> {
    /// Makes or refreshes all volumes of the pod.
    pub fn prepare(&self) -> BoxFuture<'_, Result<Prepared, VolumeError>> {
        Box::pin(async move {
            let mut prepared = Prepared::default();
            // Images are pulled and mounted with the containers that name them.
            let files = self.spec.volumes.iter().flatten().filter(|volume| volume.image.is_none());
            for volume in files {
                let made = match self.persistent(volume).await? {
                    Some(made) => made,
                    None => self.one(volume, &mut prepared.refresh_at).await?,
                };
                if made.is_read_only || is_filled(volume) {
                    prepared.read_only.insert(volume.name.clone());
                }
                let list = if made.is_device { &mut prepared.devices } else { &mut prepared.paths };
                list.insert(volume.name.clone(), made.path);
            }
            Ok(prepared)
        })
    }

    fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or("default")
    }

    fn fs_group(&self) -> Option<u32> {
        let context = self.spec.security_context.as_ref()?;
        u32::try_from(context.fs_group?).ok()
    }

    async fn one(&self, volume: &Volume, refresh_at: &mut Option<Timestamp>) -> Result<Made, VolumeError> {
        let name = volume.name.clone();
        if let Some(source) = &volume.empty_dir {
            return self.empty_dir(name, source).await;
        }
        if let Some(source) = &volume.host_path {
            let (path, kind) = (PathBuf::from(&source.path), source.type_.clone().unwrap_or_default());
            return self.host_path(name, path, kind).await;
        }
        let plugin = match volume {
            Volume { config_map: Some(_), .. } => "configmap",
            Volume { secret: Some(_), .. } => "secret",
            Volume { downward_api: Some(_), .. } => "downward-api",
            Volume { projected: Some(_), .. } => "projected",
            _ => return Err(VolumeError::Unsupported { volume: name }),
        };
        let payload = payload::gather(self, volume)
            .await
            .map_err(|source| VolumeError::Payload { volume: name.clone(), source })?;
        if let Some(due) = payload.refresh_at {
            *refresh_at = Some(refresh_at.map_or(due, |earlier| earlier.min(due)));
        }
        let dir = volume_dir(self.root, self.uid(), plugin, &name);
        let (path, group, in_memory) =
            (dir.clone(), self.fs_group(), matches!(plugin, "secret" | "projected"));
        daemon::blocking(move || {
            match in_memory {
                true => mounts::memory_dir_for(&path, atomic::size(&payload.files))?,
                false => mounts::make_dir(&path, 0o755)?,
            }
            atomic::write(&path, &payload.files, group).map(|_| ())
        })
        .await
        .map_err(|source| VolumeError::Write { volume: name, path: dir.clone(), source })?;
        Ok(Made::folder(dir))
    }

    async fn host_path(&self, name: String, path: PathBuf, kind: String) -> Result<Made, VolumeError> {
        match daemon::blocking(move || Ok(host_path::prepare(&path, &kind).map(|()| path))).await {
            Ok(Ok(path)) => Ok(Made::folder(path)),
            Ok(Err(source)) => Err(VolumeError::HostPath { volume: name, source }),
            Err(source) => Err(VolumeError::Write { volume: name, path: PathBuf::new(), source }),
        }
    }

    async fn empty_dir(&self, name: String, source: &EmptyDirVolumeSource) -> Result<Made, VolumeError> {
        let dir = volume_dir(self.root, self.uid(), "empty-dir", &name);
        if let Some(medium) = source.medium.as_deref().filter(|medium| medium.starts_with("HugePages")) {
            let Some(size) = hugepages::page_size(medium, self.spec) else {
                return Err(VolumeError::PageSize { volume: name });
            };
            let path = dir.clone();
            let mounted = daemon::blocking(move || hugepages::mount(&path, size)).await;
            mounted.map_err(|source| VolumeError::Write { volume: name, path: dir.clone(), source })?;
            return Ok(Made::folder(dir));
        }
        let memory = match source.medium.as_deref() {
            None | Some("") => false,
            Some("Memory") => true,
            Some(_) => return Err(VolumeError::Unsupported { volume: name }),
        };
        let limit = source.size_limit.as_ref().and_then(quantity::units).filter(|bytes| *bytes > 0);
        let limit = [limit, resources::memory_limit(self.spec), Some(self.allocatable_memory)];
        let limit = limit.into_iter().flatten().filter(|bytes| *bytes > 0).min();
        let limit = limit.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(UNKNOWN_MEMORY);
        let (path, group) = (dir.clone(), self.fs_group());
        daemon::blocking(move || {
            if mounts::is_folder(&path) && (!memory || mounts::is_mount_point(&path)) {
                return Ok(());
            }
            match memory {
                true => mounts::memory_dir(&path, limit)?,
                false => mounts::make_dir(&path, 0o777)?,
            }
            mounts::set_mode(&path, 0o777)?;
            match group {
                Some(group) => ownership::give_to_group(&path, group),
                None => Ok(()),
            }
        })
        .await
        .map_err(|source| VolumeError::Write { volume: name, path: dir.clone(), source })?;
        Ok(Made::folder(dir))
    }
}

/// Whether a volume is filled from objects of the API.
fn is_filled(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

/// Gives volumes back to their drivers, then unmounts and removes the pod's folder.
pub fn tear_down<'a>(csi: &'a csi::Csi, root: &'a Path, uid: &'a str) -> BoxFuture<'a, std::io::Result<()>> {
    Box::pin(async move {
        let dir = pod_dir(root, uid);
        csi.unpublish_all(&dir).await.map_err(std::io::Error::other)?;
        daemon::blocking(move || mounts::unmount_and_remove(&dir)).await
    })
}
