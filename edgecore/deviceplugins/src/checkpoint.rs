//! `kubelet_internal_checkpoint`: who has which device, in the kubelet's form.
//!
//! The kubelet's checksum is a hash of Go's way to print the data, which nobody else can compute: ours is another one, and
//! none is checked. The file is replaced whole, so it is never half written.

#![expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::inventory::{Allocation, Inventory};

const NAME: &str = "kubelet_internal_checkpoint";
/// Larger ones are none of ours.
const LIMIT: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    data: Data,
    #[serde(default)]
    checksum: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    pod_device_entries: Option<Vec<CheckpointEntry>>,
    registered_devices: Option<BTreeMap<String, Vec<String>>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CheckpointEntry {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    container_name: String,
    resource_name: String,
    /// By NUMA node; -1 for devices without one.
    #[serde(rename = "DeviceIDs")]
    device_ids: BTreeMap<String, Vec<String>>,
    /// Base64 of the plugin's answer.
    alloc_resp: String,
}

pub(super) fn encode(inventory: &Inventory) -> io::Result<Vec<u8>> {
    let entry = |given: &Allocation| CheckpointEntry {
        pod_uid: given.uid.clone(),
        container_name: given.container.clone(),
        resource_name: given.resource.clone(),
        device_ids: [("-1".to_owned(), given.devices.iter().cloned().collect())].into(),
        alloc_resp: STANDARD.encode(&given.answer),
    };
    let registered = inventory.known().iter();
    let data = Data {
        pod_device_entries: Some(inventory.given.iter().map(entry).collect()),
        registered_devices: Some(
            registered.map(|(name, known)| (name.clone(), known.keys().cloned().collect())).collect(),
        ),
    };
    let checksum = fnv(&serde_json::to_vec(&data)?);
    Ok(serde_json::to_vec(&File { data, checksum })?)
}

fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    u64::from(bytes.iter().fold(0x811c_9dc5, step))
}

pub(super) fn write(folder: &Path, bytes: &[u8]) -> io::Result<()> {
    pki::files::write_atomic(&folder.join(NAME), bytes, 0o600).map_err(io::Error::other)
}

/// Nothing, where there is none. Devices count as unhealthy until their plugin is back.
pub(super) fn read(folder: &Path) -> io::Result<Inventory> {
    let path = folder.join(NAME);
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Inventory::default()),
        Err(error) => return Err(error),
        Ok(meta) if meta.len() > LIMIT => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too large"));
        }
        Ok(_) => {}
    }
    let bad = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let file: File = serde_json::from_slice(&fs::read(&path)?).map_err(|error| bad(error.to_string()))?;
    let mut inventory = Inventory::default();
    for (name, ids) in file.data.registered_devices.unwrap_or_default() {
        inventory.set(&name, ids.into_iter().map(|id| (id, false)).collect());
    }
    for entry in file.data.pod_device_entries.unwrap_or_default() {
        let answer = STANDARD.decode(&entry.alloc_resp).map_err(|error| bad(error.to_string()))?;
        inventory.given.push(Allocation {
            uid: entry.pod_uid,
            container: entry.container_name,
            resource: entry.resource_name,
            devices: entry.device_ids.into_values().flatten().collect(),
            answer,
        });
    }
    Ok(inventory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_with_its_devices_asleep() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), Inventory::default());
        let mut inventory = Inventory::default();
        inventory.set("example.com/camera", [("a".to_owned(), true)].into());
        inventory.given.push(Allocation {
            uid: "u".into(),
            container: "c".into(),
            resource: "example.com/camera".into(),
            devices: ["a".to_owned()].into(),
            answer: vec![0, 255],
        });
        write(folder.path(), &encode(&inventory).unwrap()).unwrap();
        inventory.mark_unhealthy("example.com/camera");
        assert_eq!(read(folder.path()).unwrap(), inventory);
    }

    #[test]
    fn a_checkpoint_of_the_kubelet_is_read_and_noise_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"Data":{"PodDeviceEntries":[{"PodUID":"u","ContainerName":"c","ResourceName":"r.io/x",
            "DeviceIDs":{"0":["a"],"1":["b"]},"AllocResp":"CgA="}],"RegisteredDevices":null},"Checksum":1}"#;
        fs::write(folder.path().join(NAME), text).unwrap();
        let known = read(folder.path()).unwrap();
        assert_eq!(known.given[0].devices.len(), 2);
        assert_eq!(known.given[0].answer, [0x0a, 0]);
        fs::write(folder.path().join(NAME), "{").unwrap();
        assert_eq!(read(folder.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
