//! What one container mounts: its volumes, the hosts file, the termination log.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cri::v1::{Mount, MountPropagation};
use k8s_openapi::api::core::v1::{Container, VolumeMount};

use super::{Prepared, mounts, pod_dir, subpath};
use crate::edged::pods::configs::termination_path;
use crate::edged::pods::expand::expand;

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("container mounts volume {volume:?}, which the pod does not have")]
    NoVolume { volume: String },
    #[error("subPath {path:?} of volume {volume:?}")]
    SubPath { volume: String, path: String, source: io::Error },
    #[error("writing {path}")]
    Write { path: PathBuf, source: io::Error },
}

/// The folder of one pod and what is known for one of its containers.
pub struct Wanted<'a> {
    pub root: &'a Path,
    pub uid: &'a str,
    pub container: &'a Container,
    pub attempt: u32,
    pub environment: &'a [(String, String)],
    pub hosts: String,
}

/// Writes the files that belong to the container and lists its mounts, in the order of the spec. Blocks on the disk.
pub fn prepare(wanted: &Wanted<'_>, volumes: &Prepared) -> Result<Vec<Mount>, MountError> {
    let mut list = Vec::new();
    for (index, mount) in wanted.container.volume_mounts.iter().flatten().enumerate() {
        list.push(volume(wanted, volumes, mount, index)?);
    }
    let has = |list: &[Mount], path: &str| list.iter().any(|mount| mount.container_path == path);
    let dir = pod_dir(wanted.root, wanted.uid);
    if !has(&list, "/etc/hosts") {
        let path = dir.join("etc-hosts");
        write(&path, wanted.hosts.as_bytes(), 0o644)?;
        list.push(plain("/etc/hosts", &path));
    }
    let folder = dir.join("containers").join(&wanted.container.name);
    let log = folder.join(wanted.attempt.to_string());
    mounts::make_dir(&folder, 0o750).map_err(|source| MountError::Write { path: folder.clone(), source })?;
    write(&log, b"", 0o666)?;
    list.push(plain(termination_path(wanted.container), &log));
    Ok(list)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), MountError> {
    fs::write(path, bytes)
        .and_then(|()| mounts::set_mode(path, mode))
        .map_err(|source| MountError::Write { path: path.to_owned(), source })
}

fn plain(inside: &str, outside: &Path) -> Mount {
    Mount {
        container_path: inside.to_owned(),
        host_path: outside.to_string_lossy().into_owned(),
        ..Mount::default()
    }
}

fn volume(
    wanted: &Wanted<'_>,
    volumes: &Prepared,
    mount: &VolumeMount,
    index: usize,
) -> Result<Mount, MountError> {
    let source = volumes.paths.get(&mount.name);
    let source = source.ok_or_else(|| MountError::NoVolume { volume: mount.name.clone() })?;
    let known: BTreeMap<&str, &str> =
        wanted.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expression = mount.sub_path_expr.as_deref().filter(|text| !text.is_empty());
    let below = match expression {
        Some(text) => expand(text, |name| known.get(name).map(|value| (*value).to_owned())),
        None => mount.sub_path.clone().unwrap_or_default(),
    };
    let path = match below.is_empty() {
        true => source.clone(),
        false => {
            let target = pod_dir(wanted.root, wanted.uid)
                .join("volume-subpaths")
                .join(&mount.name)
                .join(&wanted.container.name)
                .join(index.to_string());
            subpath::bind(source, &below, &target).map_err(|source| MountError::SubPath {
                volume: mount.name.clone(),
                path: below,
                source,
            })?;
            target
        }
    };
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        _ => MountPropagation::PropagationPrivate,
    };
    let inside = match mount.mount_path.starts_with('/') {
        true => mount.mount_path.clone(),
        false => format!("/{}", mount.mount_path),
    };
    Ok(Mount {
        readonly: mount.read_only == Some(true),
        propagation: propagation.into(),
        ..plain(&inside, &path)
    })
}
