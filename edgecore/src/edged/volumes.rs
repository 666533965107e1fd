//! Volumes of pods, under `<root>/pods/<uid>/volumes/<plugin>/<name>` (spec/edge-runtime.md 5.10).
//!
//! `prepare` may be called again and again: it makes what is missing and rewrites files whose source changed.
//! `tear_down` never deletes below something that is still mounted.

pub mod atomic;
pub mod container_mounts;
mod host_path;
pub mod mounts;
mod ownership;
mod payload;
mod subpath;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, PodSpec, Volume};

use super::pods::fields::Place;
use super::quantity;
use crate::metamanager::Queries;

pub use payload::PayloadError;

/// What a pod's containers can mount.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    pub paths: BTreeMap<String, PathBuf>,
    /// When a service-account token has to be replaced.
    pub refresh_at: Option<Timestamp>,
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
}

/// The folder of a pod.
pub fn pod_dir(root: &Path, uid: &str) -> PathBuf {
    root.join("pods").join(uid)
}

fn volume_dir(root: &Path, uid: &str, plugin: &str, name: &str) -> PathBuf {
    pod_dir(root, uid).join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
}

/// What volumes are made from.
pub struct Site<'a> {
    pub root: &'a Path,
    pub queries: &'a Queries,
    pub place: &'a Place,
    pub pod: &'a Pod,
    pub spec: &'a PodSpec,
}

impl Site<'_> {
    /// Makes or refreshes all volumes of the pod.
    pub async fn prepare(&self) -> Result<Prepared, VolumeError> {
        let mut prepared = Prepared::default();
        for volume in self.spec.volumes.iter().flatten() {
            let path = self.one(volume, &mut prepared.refresh_at).await?;
            prepared.paths.insert(volume.name.clone(), path);
        }
        Ok(prepared)
    }

    fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    fn fs_group(&self) -> Option<u32> {
        let context = self.spec.security_context.as_ref()?;
        u32::try_from(context.fs_group?).ok()
    }

    async fn one(&self, volume: &Volume, refresh_at: &mut Option<Timestamp>) -> Result<PathBuf, VolumeError> {
        let name = volume.name.clone();
        if let Some(source) = &volume.empty_dir {
            return self.empty_dir(name, source).await;
        }
        if let Some(source) = &volume.host_path {
            let (path, kind) = (PathBuf::from(&source.path), source.type_.clone().unwrap_or_default());
            let made = blocking(move || Ok(host_path::prepare(&path, &kind).map(|()| path))).await;
            return match made {
                Ok(Ok(path)) => Ok(path),
                Ok(Err(source)) => Err(VolumeError::HostPath { volume: name, source }),
                Err(source) => Err(VolumeError::Write { volume: name, path: PathBuf::new(), source }),
            };
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
        blocking(move || {
            match in_memory {
                true => mounts::memory_dir(&path, None)?,
                false => mounts::make_dir(&path, 0o755)?,
            }
            atomic::write(&path, &payload.files, group).map(|_| ())
        })
        .await
        .map_err(|source| VolumeError::Write { volume: name, path: dir.clone(), source })?;
        Ok(dir)
    }

    async fn empty_dir(&self, name: String, source: &EmptyDirVolumeSource) -> Result<PathBuf, VolumeError> {
        let dir = volume_dir(self.root, self.uid(), "empty-dir", &name);
        let memory = match source.medium.as_deref() {
            None | Some("") => false,
            Some("Memory") => true,
            Some(_) => return Err(VolumeError::Unsupported { volume: name }),
        };
        let limit = source.size_limit.as_ref().and_then(quantity::units).filter(|bytes| *bytes > 0);
        let (path, group) = (dir.clone(), self.fs_group());
        blocking(move || {
            if path.is_dir() && (!memory || mounts::is_mount_point(&path)) {
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
        Ok(dir)
    }
}

/// Runs file work away from the runtime's threads.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

/// Unmounts and removes the pod's folder.
pub async fn tear_down(root: &Path, uid: &str) -> std::io::Result<()> {
    let dir = pod_dir(root, uid);
    blocking(move || mounts::unmount_and_remove(&dir)).await
}
