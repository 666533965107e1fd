//! A kubelet with folders of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use harness::containerd::unmount_below;
use harness::process::Process;
use serde_json::json;

/// A kubelet that takes the API server of a kubeconfig; stopped when dropped, its containers go on.
pub struct Kubelet {
    binary: PathBuf,
    folder: PathBuf,
    kubeconfig: PathBuf,
    node: String,
    process: Option<Process>,
}

impl Kubelet {
    /// Starts it below `folder` as `node`, with the API at `port`. `runtime` is the CRI endpoint.
    pub fn start(
        binary: &Path,
        folder: &Path,
        (node, kubeconfig): (&str, &Path),
        (port, runtime): (u16, &str),
    ) -> Result<Kubelet> {
        std::fs::create_dir_all(folder)?;
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": runtime, "cgroupDriver": "cgroupfs",
            "port": port, "healthzPort": 0, "readOnlyPort": 0, "podLogsDir": folder.join("logs"),
            "volumePluginDir": folder.join("plugins"), "resolvConf": "",
            // Nothing of this machine is to be limited, changed or cleaned up by it.
            "cgroupsPerQOS": false, "enforceNodeAllocatable": [], "failCgroupV1": false, "failSwapOn": false,
            "makeIPTablesUtilChains": false, "oomScoreAdj": 0, "localStorageCapacityIsolation": false,
            "imageGCHighThresholdPercent": 100,
            "evictionHard": { "memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%" },
            // Heartbeats that a test can wait for.
            "nodeStatusUpdateFrequency": "2s", "nodeStatusReportFrequency": "4s", "nodeLeaseDurationSeconds": 8,
        });
        std::fs::write(folder.join("config.yaml"), config.to_string())?;
        let mut kubelet = Kubelet {
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
            node: node.to_owned(),
            process: None,
        };
        kubelet.again()?;
        Ok(kubelet)
    }

    /// Starts it again after [`Kubelet::kill9`].
    pub fn again(&mut self) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(self.folder.join("config.yaml"));
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command.arg("--root-dir").arg(self.folder.join("root"));
        command.arg("--cert-dir").arg(self.folder.join("pki"));
        command.args(["--hostname-override", &self.node, "--v", "2"]);
        self.process = Some(Process::start(command, "kubelet", &self.log())?);
        Ok(())
    }

    /// Ends it like a crash; containers go on.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.take().context("no kubelet runs")?.kill9()
    }

    /// Errors if it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.process.as_mut().context("no kubelet runs")?.check()
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join("kubelet.log")
    }
}

impl Drop for Kubelet {
    /// Volumes of pods that it left are unmounted.
    fn drop(&mut self) {
        self.process = None;
        unmount_below(&self.folder);
    }
}
