//! `vol_data.json`: what taking a volume back needs, in the kubelet's form and place.

#![expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::CsiVolume;
use crate::mounts;

const NAME: &str = "vol_data.json";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Record {
    pub driver_name: String,
    pub volume_handle: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_name: String,
    #[serde(rename = "specVolID", skip_serializing_if = "String::is_empty")]
    pub spec_vol_id: String,
    #[serde(rename = "attachmentID", skip_serializing_if = "String::is_empty")]
    pub attachment_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_lifecycle_mode: String,
    /// Ours: the driver has said that it is there.
    #[serde(rename = "causewayPublished")]
    pub is_published: bool,
}

impl Record {
    pub(super) fn of_pod(wanted: &CsiVolume) -> Record {
        let mode = if wanted.is_inline { "Ephemeral" } else { "Persistent" };
        Record {
            driver_name: wanted.driver.clone(),
            volume_handle: wanted.handle.clone(),
            node_name: wanted.node.clone(),
            spec_vol_id: wanted.name.clone(),
            attachment_id: super::names::attachment(&wanted.handle, &wanted.driver, &wanted.node),
            volume_lifecycle_mode: mode.to_owned(),
            is_published: false,
        }
    }

    pub(super) fn of_stage(wanted: &CsiVolume) -> Record {
        Record {
            driver_name: wanted.driver.clone(),
            volume_handle: wanted.handle.clone(),
            ..Record::default()
        }
    }

    /// None if there is none. One that cannot be read is an error: without it the volume cannot be taken back.
    pub(super) fn read(folder: &Path) -> io::Result<Option<Record>> {
        match fs::read(folder.join(NAME)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        mounts::make_dir(folder, 0o750)?;
        let bytes = serde_json::to_vec(self)?;
        pki::files::write_atomic(&folder.join(NAME), &bytes, 0o600).map_err(io::Error::other)
    }
}

/// Folders of volumes; none where there are no volumes.
pub(super) fn folders(volumes: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(volumes) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Removes the mount point and the record of a volume that was taken back. What a driver left mounted stays, and is an
/// error: nothing below it is ever deleted.
pub(super) fn remove(folder: &Path, mount: &str) -> io::Result<()> {
    let target = folder.join(mount);
    if mounts::is_mounted(&target)? {
        return Err(io::Error::other(format!("{} is still mounted", target.display())));
    }
    let gone = |done: io::Result<()>| match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    gone(fs::remove_dir(&target))?;
    gone(fs::remove_file(folder.join(NAME)))?;
    gone(fs::remove_dir(folder))
}

/// True if some pod still has the volume, or may have it: a record that cannot be read may be one of it.
pub(super) fn is_used(root: &Path, record: &Record) -> io::Result<bool> {
    for pod in folders(&root.join("pods"))? {
        for folder in folders(&pod.join("volumes/kubernetes.io~csi"))? {
            let same = |other: Record| {
                other.driver_name == record.driver_name && other.volume_handle == record.volume_handle
            };
            if Record::read(&folder).map_or(true, |other| other.is_some_and(same)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record { driver_name: "d".into(), volume_handle: "h".into(), ..Record::default() }
    }

    #[test]
    fn a_record_of_the_kubelet_is_read_and_ours_has_its_names() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(folder.path()).unwrap(), None);
        let text = r#"{"attachmentID":"csi-1","driverName":"d","nodeName":"n","specVolID":"pv","volumeHandle":"h",
            "volumeLifecycleMode":"Persistent","seLinuxMountContext":""}"#;
        fs::write(folder.path().join(NAME), text).unwrap();
        let read = Record::read(folder.path()).unwrap().unwrap();
        assert_eq!((read.attachment_id.as_str(), read.spec_vol_id.as_str()), ("csi-1", "pv"));
        read.write(folder.path()).unwrap();
        assert!(fs::read_to_string(folder.path().join(NAME)).unwrap().contains("\"specVolID\":\"pv\""));
        fs::write(folder.path().join(NAME), "{").unwrap();
        assert!(Record::read(folder.path()).is_err());
    }

    #[test]
    fn a_volume_is_used_while_any_pod_has_its_record() {
        let root = tempfile::tempdir().unwrap();
        let of = |pod: &str| root.path().join(format!("pods/{pod}/volumes/kubernetes.io~csi/pv"));
        assert!(!is_used(root.path(), &record()).unwrap());
        record().write(&of("a")).unwrap();
        record().write(&of("b")).unwrap();
        fs::create_dir(of("a").join("mount")).unwrap();
        remove(&of("a"), "mount").unwrap();
        assert!(is_used(root.path(), &record()).unwrap());
        fs::create_dir(of("b").join("mount")).unwrap();
        fs::write(of("b").join("mount/data"), "precious").unwrap();
        assert!(remove(&of("b"), "mount").is_err(), "what a driver left is not deleted");
        fs::remove_file(of("b").join("mount/data")).unwrap();
        remove(&of("b"), "mount").unwrap();
        assert!(!is_used(root.path(), &record()).unwrap());
    }
}
