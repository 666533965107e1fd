//! Takes the pods of an installation out of the container runtime, and its mounts off the file system.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use api::config::edgecore::EdgeCoreConfig;
use rustix::mount::{UnmountFlags, unmount};

use crate::render;

/// Label of a pod's uid on its sandbox.
const UID: &str = "io.kubernetes.pod.uid";

/// Stops and removes every sandbox whose pod has a folder in this installation: other pods of the same runtime stay.
pub async fn remove(config_file: &Path) -> Result<()> {
    let (config, _): (EdgeCoreConfig, _) = daemon::config::load(config_file)?;
    let edged = &config.modules.edged;
    let root = PathBuf::from(&edged.root_directory);
    let uids = uids(&root.join("pods"));
    if !uids.is_empty() {
        let endpoint = &edged.tailored_kubelet_config.container_runtime_endpoint;
        let removed = remove_sandboxes(endpoint, &uids).await;
        match removed {
            Ok(count) => render::done(&format!("removed {count} pods from {endpoint}")),
            // A runtime that is gone has no containers to remove.
            Err(error) => render::done(&format!("pods not removed from {endpoint}: {error:#}")),
        }
    }
    unmount_below(&root)
}

fn uids(pods: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(pods).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

async fn remove_sandboxes(endpoint: &str, uids: &BTreeSet<String>) -> Result<usize> {
    let runtime = cri::Runtime::new(endpoint)?;
    let mut count = 0;
    for sandbox in runtime.list_pod_sandboxes(None).await? {
        if sandbox.labels.get(UID).is_some_and(|uid| uids.contains(uid)) {
            runtime.stop_pod_sandbox(&sandbox.id).await?;
            runtime.remove_pod_sandbox(&sandbox.id).await?;
            count += 1;
        }
    }
    Ok(count)
}

fn unmount_below(folder: &Path) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
    // The deepest first: mounts lie in mounts.
    let mut below: Vec<&Path> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(Path::new)
        .filter(|path| path.starts_with(folder) && *path != folder)
        .collect();
    below.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    for path in below {
        unmount(path, UnmountFlags::empty()).with_context(|| format!("unmounting {}", path.display()))?;
    }
    Ok(())
}
