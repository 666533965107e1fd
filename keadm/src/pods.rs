//! Takes the pods of an installation out of the container runtime, and its mounts off the file system.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use api::config::edgecore::{EdgeCoreConfig, Edged, KubeletConfig};

use crate::{cgroups, mounts, render};

/// Where the kernel shows cgroups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Stops and removes every sandbox, running or ended, whose pod has a folder or logs in this installation: other pods
/// of the same runtime stay. `named` is a runtime's endpoint that counts instead of the configuration's.
pub(crate) async fn remove(config_file: &Path, named: Option<&str>) -> Result<()> {
    let (config, _): (EdgeCoreConfig, _) = daemon::config::load(config_file)?;
    let edged = &config.modules.edged;
    let kubelet = &edged.tailored_kubelet_config;
    let root = PathBuf::from(&edged.root_directory);
    let mut uids: BTreeSet<String> = names(&root.join("pods")).collect();
    // An ended pod's folder may be gone before its sandbox; its logs (NAMESPACE_NAME_UID) go last.
    let logs = names(Path::new(&kubelet.pod_logs_dir));
    uids.extend(logs.filter_map(|name| name.rsplit_once('_').map(|(_, uid)| uid.to_owned())));
    if !uids.is_empty() {
        let endpoint = named.unwrap_or_else(|| endpoint(edged));
        match remove_sandboxes(endpoint, &uids).await {
            Ok(count) => render::done(&format!("removed {count} pods from {endpoint}")),
            // A runtime that is gone has no containers to remove.
            Err(error) => render::done(&format!("pods not removed from {endpoint}: {error:#}")),
        }
        let count = cgroups::remove(Path::new(CGROUPS), &kubelet.cgroup_root, &uids);
        if count > 0 {
            render::done(&format!("removed the cgroups of {count} pods"));
        }
    }
    mounts::unmount_below(&root)
}

/// The endpoint EdgeCore takes from the same file.
pub(crate) fn endpoint(edged: &Edged) -> &str {
    let new = &edged.tailored_kubelet_config.container_runtime_endpoint;
    let old = &edged.remote_runtime_endpoint;
    let is_default = *new == KubeletConfig::default().container_runtime_endpoint;
    if is_default && !old.is_empty() { old } else { new }
}

fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

async fn remove_sandboxes(endpoint: &str, uids: &BTreeSet<String>) -> Result<usize> {
    let runtime = cri::Runtime::new(endpoint)?;
    let mut count = 0;
    for sandbox in runtime.list_pod_sandboxes(None).await? {
        if sandbox.labels.get(cri::labels::POD_UID).is_some_and(|uid| uids.contains(uid)) {
            runtime.stop_pod_sandbox(&sandbox.id).await?;
            runtime.remove_pod_sandbox(&sandbox.id).await?;
            count += 1;
        }
    }
    Ok(count)
}
