//! Log rotation: a container's log that has grown too large is renamed, and the runtime opens a new one.
//!
//! `<n>.log` -> `<n>.log.<time>` -> `<n>.log.<time>.gz`; the newest few are kept (KubeEdge's containerLogMaxSize and
//! containerLogMaxFiles), and all but the newest of them compressed. Termination message files are kept short as well.

mod files;
pub(crate) mod links;
mod termination;
#[cfg(test)]
mod umask_tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cri::v1::ContainerState;
use tokio_util::sync::CancellationToken;

use nodebase::base::Base;
use podmodel::errors::chain;

const CHECK: Duration = Duration::from_secs(10);

/// Looks at the logs of running containers again and again.
pub(crate) async fn rotate(base: Arc<Base>, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            _ = stop.cancelled() => return,
            _ = tokio::time::sleep(CHECK) => {}
        }
        let pods = base.settings.root_dir.join("pods");
        let _ = daemon::blocking(move || {
            termination::trim_all(&pods);
            Ok(())
        })
        .await;
        let (root, limits) = (base.settings.pod_logs_dir.clone(), base.settings.logs);
        // Only when some file is too large is the runtime asked whose it is.
        let large =
            daemon::blocking(move || Ok(files::too_large(&root, limits.max_bytes))).await.unwrap_or_default();
        if !large.is_empty() {
            rotate_all(&base, large).await;
        }
    }
}

async fn rotate_all(base: &Base, large: Vec<PathBuf>) {
    let Ok(containers) = base.runtime.list_containers(None).await else { return };
    for container in containers.iter().filter(|item| item.state() == ContainerState::ContainerRunning) {
        let Ok(status) = base.runtime.container_status(&container.id).await else { continue };
        let Some(path) = large.iter().find(|path| **path == Path::new(&status.log_path)).cloned() else {
            continue;
        };
        let moved = files::set_aside_name(&path);
        let (from, to) = (path.clone(), moved.clone());
        if let Err(error) = daemon::blocking(move || files::rename(&from, &to)).await {
            tracing::warn!(container = %container.id, error = %error, "log not rotated");
            continue;
        }
        if let Err(error) = base.runtime.reopen_container_log(&container.id).await {
            tracing::warn!(container = %container.id, error = %chain(&error), "log not opened anew");
            // The runtime goes on writing to the file it has: it keeps its name.
            let _ = daemon::blocking(move || files::rename_back(&moved, &path)).await;
            continue;
        }
        // Only now: the runtime writes to the new log however long the old ones take.
        let max_files = base.settings.logs.max_files;
        if let Err(error) = daemon::blocking(move || files::thin(&path, &moved, max_files)).await {
            tracing::warn!(container = %container.id, error = %error, "rotated logs not thinned out");
        }
    }
}
