//! What one container mounts: its volumes, the hosts file, the termination log.

#![expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cri::v1::{Device, ImageSpec, Mount, MountPropagation};
use k8s_openapi::api::core::v1::{Container, VolumeMount};

use super::{Prepared, mounts, pod_dir, subpath};
use podmodel::expand::expand;
use podmodel::spec::termination_path;

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("container mounts volume {volume:?}, which the pod does not have")]
    NoVolume { volume: String },
    #[error("container uses volume {volume:?} as a device, which it is not")]
    NoDevice { volume: String },
    #[error("subPath {path:?} of volume {volume:?}")]
    SubPath { volume: String, path: String, source: io::Error },
    #[error("missing value for {name:?} in the subPathExpr of volume {volume:?}")]
    NoValue { volume: String, name: String },
    #[error("recursive read-only mount of volume {volume:?}: {why}")]
    Recursive { volume: String, why: &'static str },
    #[error("writing {path}")]
    Write { path: PathBuf, source: io::Error },
}

/// The folder of one pod and what is known for one of its containers.
pub struct MountContext<'a> {
    pub root: &'a Path,
    pub uid: &'a str,
    pub container: &'a Container,
    pub attempt: u32,
    pub environment: &'a [(String, String)],
    pub hosts: String,
    /// Volumes that are images.
    pub images: BTreeMap<String, ImageSpec>,
    /// The runtime can make a mount read-only with all that is mounted below it.
    pub has_recursive_read_only: bool,
}

/// Writes the files that belong to the container and lists its mounts, in the order of the spec. Blocks on the disk.
pub fn prepare(wanted: &MountContext<'_>, volumes: &Prepared) -> Result<Vec<Mount>, MountError> {
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
    forget_last_words(&folder, wanted.attempt);
    write(&log, b"", 0o666)?;
    list.push(plain(termination_path(wanted.container), &log));
    Ok(list)
}

/// Removes the termination message files of runs that no status tells of any more: of this one and the one before it.
fn forget_last_words(folder: &Path, attempt: u32) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_old = |name: &str| name.parse::<u32>().is_ok_and(|run| run.saturating_add(1) < attempt);
    for entry in entries.filter(|entry| entry.file_name().to_str().is_some_and(is_old)) {
        // It is a few bytes, and is removed with the pod.
        let _ = fs::remove_file(entry.path());
    }
}

/// The devices of the container's `volumeDevices`.
pub fn devices(container: &Container, volumes: &Prepared) -> Result<Vec<Device>, MountError> {
    let wanted = container.volume_devices.iter().flatten();
    let found = wanted.map(|wanted| {
        let path = volumes.devices.get(&wanted.name);
        let path = path.ok_or_else(|| MountError::NoDevice { volume: wanted.name.clone() })?;
        Ok(Device {
            container_path: wanted.device_path.clone(),
            host_path: path.to_string_lossy().into_owned(),
            permissions: if volumes.read_only.contains(&wanted.name) { "r" } else { "mrw" }.to_owned(),
        })
    });
    found.collect()
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

/// The part of the volume that is mounted; empty for all of it.
fn below(wanted: &MountContext<'_>, mount: &VolumeMount) -> Result<String, MountError> {
    let Some(text) = mount.sub_path_expr.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(mount.sub_path.clone().unwrap_or_default());
    };
    let missing = RefCell::new(None);
    let below = expand(text, |name| {
        let known = wanted.environment.iter().find(|(known, _)| known == name);
        if known.is_none() {
            missing.replace(Some(name.to_owned()));
        }
        known.map(|(_, value)| value.clone())
    });
    match missing.into_inner() {
        Some(name) => Err(MountError::NoValue { volume: mount.name.clone(), name }),
        None => Ok(below),
    }
}

fn volume(
    wanted: &MountContext<'_>,
    volumes: &Prepared,
    mount: &VolumeMount,
    index: usize,
) -> Result<Mount, MountError> {
    let below = below(wanted, mount)?;
    if let Some(image) = wanted.images.get(&mount.name) {
        return Ok(Mount {
            container_path: absolute(&mount.mount_path),
            readonly: true,
            image: Some(image.clone()),
            image_sub_path: below,
            ..Mount::default()
        });
    }
    let source = volumes.paths.get(&mount.name);
    let source = source.ok_or_else(|| MountError::NoVolume { volume: mount.name.clone() })?;
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
    Ok(Mount {
        readonly: mount.read_only == Some(true) || volumes.read_only.contains(&mount.name),
        recursive_read_only: is_recursive(mount, wanted.has_recursive_read_only)?,
        propagation: propagation.into(),
        ..plain(&absolute(&mount.mount_path), &path)
    })
}

fn absolute(path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    }
}

/// Whether all below the mount is read-only as well (`resolveRecursiveReadOnly` of the kubelet).
fn is_recursive(mount: &VolumeMount, is_possible: bool) -> Result<bool, MountError> {
    let refused = |why| MountError::Recursive { volume: mount.name.clone(), why };
    match mount.recursive_read_only.as_deref() {
        Some("IfPossible") => Ok(is_possible && mount.read_only == Some(true) && !is_shared(mount)),
        Some("Enabled") if mount.read_only != Some(true) => Err(refused("the mount is not read-only")),
        Some("Enabled") if is_shared(mount) => Err(refused("the mount is propagated")),
        Some("Enabled") if !is_possible => Err(refused("the container runtime cannot do that")),
        Some("Enabled") => Ok(true),
        _ => Ok(false),
    }
}

fn is_shared(mount: &VolumeMount) -> bool {
    mount.mount_propagation.as_deref().is_some_and(|how| how != "None")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn devices_are_those_of_the_pods_block_volumes() {
        let container: Container = serde_json::from_value(json!({"name": "c", "volumeDevices": [
            {"name": "disk", "devicePath": "/dev/xvda"}, {"name": "frozen", "devicePath": "/dev/xvdb"}]}))
        .unwrap();
        let path = |path: &str| PathBuf::from(path);
        let volumes = Prepared {
            devices: [("disk".to_owned(), path("/dev/sda")), ("frozen".to_owned(), path("/dev/sdb"))].into(),
            read_only: ["frozen".to_owned()].into(),
            ..Prepared::default()
        };
        let found = devices(&container, &volumes).unwrap();
        let told: Vec<_> = found
            .iter()
            .map(|device| {
                [&device.host_path, &device.container_path, &device.permissions].map(String::as_str)
            })
            .collect();
        assert_eq!(told, [["/dev/sda", "/dev/xvda", "mrw"], ["/dev/sdb", "/dev/xvdb", "r"]]);
        let error = devices(&container, &Prepared::default()).unwrap_err();
        assert!(matches!(error, MountError::NoDevice { .. }));
    }

    fn image(id: &str) -> ImageSpec {
        ImageSpec { image: id.to_owned(), ..ImageSpec::default() }
    }

    fn prepared(mounts: serde_json::Value) -> Result<Vec<Mount>, MountError> {
        let root = tempfile::tempdir().unwrap();
        let container = serde_json::from_value(json!({"name": "c", "volumeMounts": mounts})).unwrap();
        let wanted = MountContext {
            root: root.path(),
            uid: "u",
            container: &container,
            attempt: 0,
            environment: &[("WHO".to_owned(), "me".to_owned())],
            hosts: String::new(),
            images: [("tools".to_owned(), image("sha256:1"))].into(),
            has_recursive_read_only: false,
        };
        let conf = root.path().join("pods/u/volumes/conf");
        fs::create_dir_all(&conf).unwrap();
        let paths = ["conf", "work"].map(|name| (name.to_owned(), conf.clone()));
        let read_only = ["conf".to_owned()].into();
        prepare(&wanted, &Prepared { paths: paths.into(), read_only, ..Prepared::default() })
    }

    #[test]
    fn what_the_api_fills_is_mounted_read_only() {
        let list = prepared(json!([
            {"name": "conf", "mountPath": "/a"}, {"name": "work", "mountPath": "/b"},
            {"name": "work", "mountPath": "/c", "readOnly": true}]))
        .unwrap();
        assert_eq!(list[..3].iter().map(|mount| mount.readonly).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn an_image_is_mounted_by_the_runtime() {
        let list = prepared(json!([
            {"name": "tools", "mountPath": "/tools"},
            {"name": "tools", "mountPath": "bin", "subPathExpr": "bin/$(WHO)"}]))
        .unwrap();
        let told = |index: usize| {
            let mount: &Mount = &list[index];
            (mount.container_path.as_str(), mount.image_sub_path.as_str(), mount.host_path.as_str())
        };
        assert_eq!([told(0), told(1)], [("/tools", "", ""), ("/bin", "bin/me", "")]);
        assert!(list[..2].iter().all(|mount| mount.readonly && mount.image == Some(image("sha256:1"))));
    }

    #[test]
    fn what_is_below_a_mount_is_read_only_where_asked_for_and_possible() {
        let mount = |how: &str, read_only: bool, propagation: &str| -> VolumeMount {
            serde_json::from_value(json!({"name": "v", "mountPath": "/v", "readOnly": read_only,
                "recursiveReadOnly": how, "mountPropagation": propagation}))
            .unwrap()
        };
        let asked = |how, possible| is_recursive(&mount(how, true, "None"), possible).ok();
        assert_eq!([asked("Disabled", true), asked("IfPossible", false)], [Some(false); 2]);
        assert_eq!([asked("IfPossible", true), asked("Enabled", true)], [Some(true); 2]);
        assert_eq!(asked("Enabled", false), None);
        assert!(is_recursive(&mount("Enabled", false, "None"), true).is_err());
        assert!(is_recursive(&mount("Enabled", true, "HostToContainer"), true).is_err());
    }

    #[test]
    fn a_sub_path_with_an_unknown_variable_is_refused() {
        let answer =
            prepared(json!([{"name": "work", "mountPath": "/b", "subPathExpr": "$(WHO)/$(NOBODY)"}]));
        assert!(matches!(answer, Err(MountError::NoValue { name, .. }) if name == "NOBODY"));
    }

    #[test]
    fn termination_message_files_of_old_runs_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["0", "1", "2", "3", "x"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        forget_last_words(folder.path(), 3);
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        left.sort();
        assert_eq!(left, ["2", "3", "x"]);
    }
}
