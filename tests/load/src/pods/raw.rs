//! The same pod by the runtime's calls alone, with its volume, hosts file and limits: what nobody who uses this runtime
//! can be faster than.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cri::v1;
use deviceplugins::DeviceAllocation;
use edged::Settings;
use edged::pods::{configs, security};
use harness::site::{IMAGE, NODE};
use harness::wait;
use k8s_openapi::api::core::v1::Pod;
use message::NodeName;
use podmodel::machine::Machine;

/// A pod without any mark of a kubelet: EdgeCore leaves it alone.
pub(crate) struct Raw {
    pub sandbox: String,
    container: String,
}

/// How often the runtime is asked whether it runs.
const LOOK: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(120);

/// The cgroup of raw pods.
fn parent(name: &str) -> String {
    format!("/causeway-raw/pod{name}")
}

/// What the container mounts: a folder in place of its volume, a hosts file, a file for its last words.
fn mounts(folder: &Path) -> Result<Vec<v1::Mount>> {
    std::fs::create_dir_all(folder.join("memory"))?;
    let paths = [("/memory", "memory"), ("/etc/hosts", "hosts"), ("/dev/termination-log", "last-words")];
    let mount = |(inside, outside): (&str, &str)| {
        let path = folder.join(outside);
        if !path.exists() {
            std::fs::write(&path, "127.0.0.1\tlocalhost\n")?;
        }
        let (container_path, host_path) = (inside.to_owned(), path.to_string_lossy().into_owned());
        Ok(v1::Mount { container_path, host_path, ..Default::default() })
    };
    paths.into_iter().map(mount).collect()
}

/// Makes a sandbox with one container below `folder` and returns when the runtime says that it runs. The runtime is told
/// word by word what EdgeCore tells it of the same pod, but for the labels by which EdgeCore would know it.
pub(crate) async fn start(cri: &cri::Runtime, name: &str, folder: &Path) -> Result<Raw> {
    let pod = super::pod(name, 1);
    let pod: Pod = serde_json::from_value(pod).context("reading the pod")?;
    let spec = pod.spec.as_ref().context("a pod without spec")?;
    let mut settings = Settings::with_defaults(NodeName::new(NODE)?);
    settings.pod_logs_dir = folder.join("logs");
    let resolv = std::fs::read_to_string(&settings.resolv_conf).unwrap_or_default();
    let machine = Machine::default();
    let driver = settings.cgroup_driver;
    let node = configs::Node { settings: &settings, driver, resolv: &resolv, machine: &machine };

    let mut sandbox = configs::sandbox(&pod, spec, 0, &node);
    sandbox.labels.clear();
    if let Some(metadata) = &mut sandbox.metadata {
        metadata.uid = name.to_owned();
    }
    if let Some(linux) = &mut sandbox.linux {
        linux.cgroup_parent = parent(name);
    }
    std::fs::create_dir_all(Path::new(&sandbox.log_directory).join("c0"))?;
    let mounts = mounts(&folder.join(name))?;
    let id = cri.run_pod_sandbox(sandbox.clone(), "").await?;
    let image = cri.image_status(IMAGE).await?.context("the image is not there")?;
    let wanted = spec.containers.first().context("a pod without containers")?;
    let security = security::container(spec, wanted, &image, &settings)?;
    let (environment, devices, gear) = (Vec::new(), Vec::new(), DeviceAllocation::default());
    let parts = configs::Parts { attempt: 0, image, environment, mounts, devices, gear, security };
    let mut container = configs::container(&pod, spec, wanted, parts, &node);
    container.labels.clear();
    let container = cri.create_container(&id, container, sandbox).await?;
    cri.start_container(&container).await?;
    let raw = Raw { sandbox: id, container };
    raw.is_up(cri).await?;
    Ok(raw)
}

impl Raw {
    async fn is_up(&self, cri: &cri::Runtime) -> Result<()> {
        let began = wait::now();
        while cri.container_status(&self.container).await?.state() != v1::ContainerState::ContainerRunning {
            if began.elapsed() > PATIENCE {
                bail!("container {} does not run", self.container);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    pub(crate) async fn end(self, cri: &cri::Runtime) -> Result<()> {
        cri.stop_container(&self.container, Duration::ZERO).await?;
        cri.stop_pod_sandbox(&self.sandbox).await?;
        cri.remove_pod_sandbox(&self.sandbox).await?;
        Ok(())
    }
}
