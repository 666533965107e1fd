//! Volumes that outlive the pod: claims, and what stands behind them (local, hostPath, nfs, csi); nfs and csi also
//! named in the pod itself (docs/protocol/edge-runtime.md 5.10, 5.22).

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{PersistentVolumeSpec, Volume};

use super::claims::{self, Bound, ClaimRef};
use super::{Made, VolumeContext, VolumeError, csi, host_path, mounts, nfs, ownership, volume_dir};

impl VolumeContext<'_> {
    /// None for volumes of other kinds.
    pub(super) async fn persistent(&self, volume: &Volume) -> Result<Option<Made>, VolumeError> {
        let name = volume.name.as_str();
        if let Some(source) = &volume.persistent_volume_claim {
            let bound = self.claim(name, &source.claim_name, None).await?;
            return self.mount(name, bound, source.read_only == Some(true)).await.map(Some);
        }
        if volume.ephemeral.is_some() {
            let pod = self.pod.metadata.name.as_deref().unwrap_or_default();
            let bound = self.claim(name, &format!("{pod}-{name}"), Some(self.uid())).await?;
            return self.mount(name, bound, false).await.map(Some);
        }
        if let Some(source) = &volume.nfs {
            let share = nfs::Share {
                server: source.server.clone(),
                path: source.path.clone(),
                options: Vec::new(),
                is_read_only: source.read_only == Some(true),
            };
            return self.nfs(name, name, &share).await.map(Some);
        }
        match &volume.csi {
            Some(source) => self.csi_inline(name, source).await.map(Some),
            None => Ok(None),
        }
    }

    async fn claim(&self, volume: &str, claim: &str, owner: Option<&str>) -> Result<Bound, VolumeError> {
        let wanted = ClaimRef { namespace: self.namespace(), claim, owner };
        let bound = claims::bound(self.queries, &wanted).await;
        bound.map_err(|source| VolumeError::Claim { volume: volume.to_owned(), source })
    }

    async fn mount(&self, name: &str, bound: Bound, read_only: bool) -> Result<Made, VolumeError> {
        let Bound { volume, spec } = bound;
        if spec.volume_mode.as_deref() == Some("Block") {
            return block(name, &spec, read_only).await;
        }
        if let Some(source) = &spec.local {
            let (path, marker) = (PathBuf::from(&source.path), self.dir("local-volume", &volume));
            return self.local(name, path, marker, read_only).await;
        }
        if let Some(source) = &spec.host_path {
            let (path, kind) = (PathBuf::from(&source.path), source.type_.clone().unwrap_or_default());
            let made = self.host_path(name.to_owned(), path, kind).await?;
            return Ok(Made { is_read_only: read_only, ..made });
        }
        if let Some(source) = &spec.nfs {
            let share = nfs::Share {
                server: source.server.clone(),
                path: source.path.clone(),
                options: spec.mount_options.clone().unwrap_or_default(),
                is_read_only: source.read_only == Some(true) || read_only,
            };
            return self.nfs(name, &volume, &share).await;
        }
        if spec.csi.is_some() {
            return self.csi_persistent(name, &volume, &spec, read_only).await;
        }
        Err(VolumeError::Unsupported { volume: name.to_owned() })
    }

    pub(super) fn dir(&self, plugin: &str, name: &str) -> PathBuf {
        volume_dir(self.root, self.uid(), plugin, name)
    }

    /// The folder itself is what containers see; a folder of the pod marks that its group was set for this pod.
    async fn local(
        &self,
        name: &str,
        path: PathBuf,
        marker: PathBuf,
        read_only: bool,
    ) -> Result<Made, VolumeError> {
        let (group, policy) = (self.fs_group().filter(|_| !read_only), self.group_policy());
        let folder = path.clone();
        let made = daemon::blocking(move || {
            if let Err(error) = host_path::check(&folder) {
                return Ok(Err(error));
            }
            if !mounts::is_folder(&folder) {
                return Ok(Err(host_path::HostPathError::WrongType {
                    path: folder,
                    kind: "Directory".to_owned(),
                }));
            }
            if !mounts::is_folder(&marker) {
                if let Some(group) = group {
                    ownership::give(&folder, group, policy)?;
                }
                mounts::make_dir(&marker, 0o750)?;
            }
            Ok(Ok(()))
        });
        match made.await {
            Ok(Ok(())) => Ok(Made { is_read_only: read_only, ..Made::folder(path) }),
            Ok(Err(source)) => Err(VolumeError::HostPath { volume: name.to_owned(), source }),
            Err(source) => Err(VolumeError::Write { volume: name.to_owned(), path, source }),
        }
    }

    async fn nfs(&self, name: &str, dir: &str, share: &nfs::Share) -> Result<Made, VolumeError> {
        let path = self.dir("nfs", dir);
        let mounted = nfs::mount(share, &path).await;
        mounted.map_err(|source| VolumeError::Nfs { volume: name.to_owned(), source })?;
        Ok(Made { is_read_only: share.is_read_only, ..Made::folder(path) })
    }

    pub(super) fn group_policy(&self) -> ownership::Policy {
        let context = self.spec.security_context.as_ref();
        match context.and_then(|context| context.fs_group_change_policy.as_deref()) {
            Some("OnRootMismatch") => ownership::Policy::OnRootMismatch,
            _ => ownership::Policy::Always,
        }
    }

    pub(super) fn csi_error(name: &str) -> impl FnOnce(csi::CsiError) -> VolumeError {
        move |source| VolumeError::Csi { volume: name.to_owned(), source: Box::new(source) }
    }
}

/// A device as it is: of local volumes, whose path is the device.
async fn block(name: &str, spec: &PersistentVolumeSpec, read_only: bool) -> Result<Made, VolumeError> {
    let Some(local) = &spec.local else {
        return Err(VolumeError::Block { volume: name.to_owned() });
    };
    let path = Path::new(&local.path);
    let refused = |source| VolumeError::HostPath { volume: name.to_owned(), source };
    host_path::check(path).map_err(refused)?;
    let device = path.to_owned();
    if !daemon::blocking(move || Ok(mounts::is_block_device(&device))).await.unwrap_or(false) {
        let source =
            host_path::HostPathError::WrongType { path: path.to_owned(), kind: "BlockDevice".to_owned() };
        return Err(refused(source));
    }
    Ok(Made { path: path.to_owned(), is_device: true, is_read_only: read_only })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn block_volumes_are_devices_of_local_volumes_only() {
        let spec = |source| serde_json::from_value::<PersistentVolumeSpec>(source).unwrap();
        let csi = spec(json!({"csi": {"driver": "d", "volumeHandle": "h"}}));
        assert!(matches!(block("v", &csi, false).await, Err(VolumeError::Block { .. })));
        let folder = spec(json!({"local": {"path": "/tmp"}}));
        assert!(matches!(block("v", &folder, false).await, Err(VolumeError::HostPath { .. })));
    }
}
