//! A real EdgeCore whose pods are run by a runtime that runs nothing: a whole node at little cost.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use cri::fake::Fake;
use harness::containerd::unmount_below;

use crate::Common;
use crate::edge::Edge;
use crate::ground::Ground;

pub(crate) struct FakeNode {
    pub edge: Edge,
    _runtime: Fake,
    /// Dropped after EdgeCore has ended.
    _mounts: Mounts,
}

/// What EdgeCore mounts below a folder; unmounted when dropped.
struct Mounts(PathBuf);

impl Drop for Mounts {
    fn drop(&mut self) {
        unmount_below(&self.0);
    }
}

impl FakeNode {
    /// Starts EdgeCore as `node`; its folders are below that of `ground`. The runtime has the image `none`.
    pub(crate) async fn start(common: &Common, ground: &Ground, node: &str) -> Result<FakeNode> {
        let folder = ground.scratch.path().join(format!("{node}-files"));
        std::fs::create_dir_all(&folder)?;
        let runtime = Fake::start(&folder, Arc::new(|| daemon::clock::unix_ms() * 1_000_000))?;
        runtime.add_image("none");
        let endpoint = runtime.endpoint();
        let edge = Edge::start_with(None, common, ground, node, &ground.server(), |config| {
            let edged = &mut config.modules.edged;
            let text = |name: &str| folder.join(name).to_string_lossy().into_owned();
            edged.enable = true;
            edged.root_directory = text("kubelet");
            edged.node_api.socket = text("edged.sock");
            let kubelet = &mut edged.tailored_kubelet_config;
            kubelet.container_runtime_endpoint = endpoint;
            kubelet.pod_logs_dir = text("pods");
            kubelet.static_pod_path = text("manifests");
            kubelet.cgroup_root = format!("/causeway-load-{}-{node}", std::process::id());
            kubelet.cgroups_per_qos = false;
            // How full this machine's disk is, is not measured here.
            kubelet.eviction_hard.clear();
            kubelet.enforce_node_allocatable = vec!["none".to_owned()];
        })
        .await?;
        Ok(FakeNode { edge, _runtime: runtime, _mounts: Mounts(folder) })
    }
}
