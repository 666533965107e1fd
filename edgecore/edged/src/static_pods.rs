//! Static pods: pods from files of this node, which run whether or not a cloud was ever there, and their mirrors, by
//! which the API shows them (docs/protocol/edge-runtime.md 5.16).
//!
//! ```text
//! folder --scan--> manifests --snapshot--> pods (workers)         mirrors <--> cloud
//! ```
//!
//! Owns nothing on disk. Each file is judged by itself, by the rules of the API: one that is no valid pod is named in the
//! log and in an event of the node, and leaves the others alone.

mod folder;
mod manifest;
pub(crate) mod mirrors;

use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use folder::Folder;
use nodebase::base::Base;
use nodebase::events::Kind;
use podmodel::errors::chain;

/// Snapshots waiting to be taken over: the next one says it all again.
pub(crate) const SNAPSHOT_QUEUE: usize = 1;

/// All static pods of this node.
pub(crate) type Snapshot = Vec<Pod>;

/// Reads the folder at start and whenever something in it changes, until `stop`.
pub(crate) async fn follow(base: Arc<Base>, snapshots: mpsc::Sender<Snapshot>, stop: CancellationToken) {
    let mut folder = Folder::new(base.settings.static_pods.clone());
    let mut last: Option<Snapshot> = None;
    loop {
        let pods = read(&base, &mut folder).await;
        if last.as_ref() != Some(&pods) {
            if snapshots.send(pods.clone()).await.is_err() {
                return;
            }
            last = Some(pods);
        }
        tokio::select! {
            biased;
            _ = stop.cancelled() => return,
            () = folder.changed() => {}
            _ = tokio::time::sleep(base.settings.static_pods_check) => {}
        }
    }
}

async fn read(base: &Base, folder: &mut Folder) -> Snapshot {
    let mut pods: Vec<Pod> = Vec::new();
    for (path, manifest) in folder.read().await {
        match manifest::pod(&manifest, &path, &base.settings.node) {
            Ok(pod) if pods.iter().any(|known| name_of(known) == name_of(&pod)) => {
                complain(base, folder, &path, "another file has a pod of the same name and namespace");
            }
            Ok(pod) => pods.push(pod),
            Err(error) => complain(base, folder, &path, &chain(&error)),
        }
    }
    pods
}

fn name_of(pod: &Pod) -> (Option<&String>, Option<&String>) {
    (pod.metadata.namespace.as_ref(), pod.metadata.name.as_ref())
}

/// A bad file is told once, not at every scan.
fn complain(base: &Base, folder: &mut Folder, path: &Path, error: &str) {
    if folder.is_news(path, error) {
        tracing::warn!(path = %path.display(), error, "static pod not taken");
        let text = format!("static pod of {} not taken: {error}", path.display());
        base.events.record_node(Kind::Warning, "InvalidManifest", &text);
    }
}
