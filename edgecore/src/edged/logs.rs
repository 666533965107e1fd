//! Log rotation: a container's log that has grown too large is renamed, and the runtime opens a new one.
//!
//! `<n>.log` -> `<n>.log.<time>`; the newest few are kept (KubeEdge's containerLogMaxSize and containerLogMaxFiles).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cri::v1::ContainerState;
use tokio_util::sync::CancellationToken;

use super::context::{Context, chain};
use super::volumes::blocking;

const CHECK: Duration = Duration::from_secs(10);
const MAX_BYTES: u64 = 10 << 20;
/// The one being written and older ones.
const MAX_FILES: usize = 5;

/// Looks at the logs of running containers again and again.
pub async fn rotate(context: Arc<Context>, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            _ = stop.cancelled() => return,
            _ = tokio::time::sleep(CHECK) => {}
        }
        let root = context.settings.pod_logs_dir.clone();
        // Only when some file is too large is the runtime asked whose it is.
        let large = blocking(move || Ok(too_large(&root))).await.unwrap_or_default();
        if !large.is_empty() {
            rotate_all(&context, large).await;
        }
    }
}

/// Files named `<root>/<pod>/<container>/<n>.log` beyond the limit.
fn too_large(root: &Path) -> Vec<PathBuf> {
    let entries = |path: &Path| {
        let list = std::fs::read_dir(path).into_iter().flatten().flatten();
        list.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let containers = entries(root).into_iter().flat_map(|pod| entries(&pod));
    let files = containers.flat_map(|container| entries(&container));
    let is_large = |path: &PathBuf| {
        path.extension().is_some_and(|ending| ending == "log")
            && path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() > MAX_BYTES)
    };
    files.filter(is_large).collect()
}

async fn rotate_all(context: &Context, large: Vec<PathBuf>) {
    let Ok(containers) = context.runtime.list_containers(None).await else { return };
    for container in containers.iter().filter(|item| item.state() == ContainerState::ContainerRunning) {
        let Ok(status) = context.runtime.container_status(&container.id).await else { continue };
        let Some(path) = large.iter().find(|path| **path == Path::new(&status.log_path)).cloned() else {
            continue;
        };
        let moved = blocking(move || set_aside(&path)).await;
        if let Err(error) = moved {
            tracing::warn!(container = %container.id, error = %error, "log not rotated");
            continue;
        }
        if let Err(error) = context.runtime.reopen_container_log(&container.id).await {
            tracing::warn!(container = %container.id, error = %chain(&error), "log not opened anew");
        }
    }
}

/// Renames the log and removes the oldest beyond the limit.
fn set_aside(path: &Path) -> std::io::Result<()> {
    let time = daemon::clock::now().strftime("%Y%m%d-%H%M%S");
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    std::fs::rename(path, path.with_file_name(format!("{name}.{time}")))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let prefix = format!("{name}.");
    let mut old: Vec<PathBuf> = std::fs::read_dir(folder)?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    old.sort();
    let surplus = old.len().saturating_sub(MAX_FILES - 1);
    old.into_iter().take(surplus).try_for_each(std::fs::remove_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_logs_are_found_and_few_old_ones_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("d_p_u/c");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("0.log"), "small").unwrap();
        let large = std::fs::File::create(folder.join("1.log")).unwrap();
        large.set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(too_large(root.path()), [folder.join("1.log")]);
        for day in 1..8 {
            std::fs::write(folder.join(format!("1.log.2026010{day}-000000")), "").unwrap();
        }
        set_aside(&folder.join("1.log")).unwrap();
        let left = std::fs::read_dir(&folder).unwrap().flatten().count();
        assert_eq!(left, 1 + MAX_FILES - 1);
        assert!(!folder.join("1.log").exists());
    }
}
