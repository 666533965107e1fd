//! A private containerd: own root, state, socket and CNI network. What it started is gone when it is dropped.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::images::{self, Image};

/// The sandbox image of every private containerd; it is imported at start.
pub const PAUSE: &str = "registry.invalid/pause:test";

const PROGRAMS: [&str; 3] = ["containerd", "ctr", "runc"];
const CNI_BIN: &str = "/usr/lib/cni";
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running containerd.
pub struct Containerd {
    dir: PathBuf,
    child: Option<Child>,
    bridge: Option<String>,
}

/// Why containerd cannot be run here; none if it can.
pub fn missing(cni: bool) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("containerd needs root".to_owned());
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let found = |program: &str| path.split(':').any(|folder| Path::new(folder).join(program).is_file());
    if let Some(program) = PROGRAMS.iter().find(|program| !found(program)) {
        return Some(format!("{program} is not on the PATH"));
    }
    let needed = if cni { vec!["/bin/busybox", "/usr/lib/cni/bridge"] } else { vec!["/bin/busybox"] };
    needed.iter().find(|file| !Path::new(file).exists()).map(|file| format!("{file} is missing"))
}

static STARTED: AtomicU32 = AtomicU32::new(0);

impl Containerd {
    /// Starts containerd below `dir` and waits until it answers. With `cni`, pods get addresses on a bridge of their
    /// own; without, only pods in the host's network run.
    pub async fn start(dir: &Path, cni: bool) -> Result<Containerd> {
        if let Some(reason) = missing(cni) {
            bail!("{reason}");
        }
        std::fs::create_dir_all(dir.join("cni"))?;
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let instance = (std::process::id() + number * 7919) % 16_000;
        let bridge = cni.then(|| format!("cwt{instance}"));
        if let Some(bridge) = &bridge {
            let subnet = format!("10.{}.{}.0/26", 192 + instance / 256, instance % 256);
            let list = conflist(bridge, &subnet, &dir.join("ipam"));
            std::fs::write(dir.join("cni/10-test.conflist"), serde_json::to_vec_pretty(&list)?)?;
        }
        std::fs::write(dir.join("config.toml"), config(dir))?;
        let mut containerd = Containerd { dir: dir.to_owned(), child: None, bridge };
        containerd.launch().await?;
        containerd.import(&images::pause(PAUSE)).await?;
        Ok(containerd)
    }

    /// Starts the process (again, after [`Containerd::kill9`] or [`Containerd::stop`]).
    pub async fn launch(&mut self) -> Result<()> {
        let log = std::fs::File::create(self.dir.join("containerd.log"))?;
        let child = Command::new("containerd")
            .arg("--config")
            .arg(self.dir.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting containerd")?;
        self.child = Some(child);
        let answers = async {
            while self.ctr(&["version"]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(START_LIMIT, answers).await.is_err() {
            let log = std::fs::read_to_string(self.dir.join("containerd.log")).unwrap_or_default();
            let end: Vec<&str> = log.lines().rev().take(5).collect();
            bail!("containerd did not answer within {START_LIMIT:?}: {end:?}");
        }
        Ok(())
    }

    /// The endpoint for a CRI client.
    pub fn socket(&self) -> String {
        format!("unix://{}", self.address().display())
    }

    fn address(&self) -> PathBuf {
        self.dir.join("c.sock")
    }

    /// Imports an image, so that pods find it present.
    pub async fn import(&self, image: &Image) -> Result<()> {
        let path = self.dir.join("image.tar");
        image.write(&path)?;
        self.ctr(&["-n", "k8s.io", "images", "import", &path.to_string_lossy()]).await?;
        std::fs::remove_file(path).context("removing the image archive")
    }

    /// Runs `ctr` against it and returns what it prints.
    pub async fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new("ctr").arg("-a").arg(self.address()).args(arguments).output().await?;
        if !output.status.success() {
            bail!("ctr {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Ends the process like a crash; containers go on.
    pub async fn kill9(&mut self) -> Result<()> {
        self.end(Signal::KILL).await
    }

    /// Ends the process in order; containers go on.
    pub async fn stop(&mut self) -> Result<()> {
        self.end(Signal::TERM).await
    }

    async fn end(&mut self, signal: Signal) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Some(pid) = pid_of(child.id()) {
            kill_process(pid, signal)?;
        }
        tokio::time::timeout(START_LIMIT, child.wait()).await.context("containerd does not end")??;
        Ok(())
    }
}

impl Drop for Containerd {
    /// Ends containerd, then every shim and container process whose command line names our folder, then unmounts.
    fn drop(&mut self) {
        if let Some(pid) = self.child.as_ref().and_then(|child| pid_of(child.id())) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let shims = shims_of(&self.dir);
        let members: Vec<u32> = shims.iter().flat_map(|shim| children_of(*shim)).collect();
        for pid in shims.into_iter().chain(members).filter_map(|pid| pid_of(Some(pid))) {
            let _ = kill_process(pid, Signal::KILL);
        }
        unmount_below(&self.dir);
        if let Some(bridge) = &self.bridge {
            remove_networks(bridge);
        }
        if let Some(bridge) = &self.bridge {
            let link = std::process::Command::new("ip").args(["link", "delete", bridge]).output();
            if link.is_err() {
                eprintln!("bridge {bridge} is left behind: no ip program");
            }
        }
    }
}

fn pid_of(id: Option<u32>) -> Option<Pid> {
    Pid::from_raw(i32::try_from(id?).ok()?)
}

/// Shims that serve the socket in `dir`: `containerd-shim-runc-v2 ... -address <dir>/c.sock`.
fn shims_of(dir: &Path) -> Vec<u32> {
    let address = dir.join("c.sock").to_string_lossy().into_owned();
    let is_ours = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        words.next().is_some_and(|program| program.contains("containerd-shim"))
            && words.any(|word| word == address)
    };
    processes().filter(is_ours).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn children_of(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        after.split_whitespace().nth(1).and_then(|field| field.parse::<u32>().ok()) == Some(parent)
    };
    processes().filter(is_child).collect()
}

/// Mount points below a folder, deepest first.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut below: Vec<PathBuf> = points.filter(|path| path.starts_with(dir)).collect();
    below.reverse();
    below
}

/// Unmounts all of them: for a test that ended in the middle.
pub fn unmount_below(dir: &Path) {
    for path in mounts_below(dir) {
        let _ = rustix::mount::unmount(&path, UnmountFlags::DETACH);
    }
}

/// Where CNI plugins remember what they made, as `<network>-<sandbox>-<interface>`.
const CNI_RESULTS: &str = "/var/lib/cni/results";

/// Removes the network namespaces of sandboxes that were never stopped, and what CNI remembers of them.
fn remove_networks(bridge: &str) {
    let entries = std::fs::read_dir(CNI_RESULTS).into_iter().flatten().flatten();
    let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let prefix = format!("{bridge}-");
    for name in names.iter().filter(|name| name.starts_with(&prefix)) {
        let text = std::fs::read_to_string(Path::new(CNI_RESULTS).join(name)).unwrap_or_default();
        let result: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let interfaces = result["result"]["interfaces"].as_array().cloned().unwrap_or_default();
        for namespace in interfaces.iter().filter_map(|interface| interface["sandbox"].as_str()) {
            let _ = rustix::mount::unmount(namespace, UnmountFlags::DETACH);
            let _ = std::fs::remove_file(namespace);
        }
        let sandbox = result["containerId"].as_str().unwrap_or(name);
        for file in names.iter().filter(|file| file.contains(sandbox)) {
            let _ = std::fs::remove_file(Path::new(CNI_RESULTS).join(file));
        }
    }
}

fn config(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{dir}/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{dir}/cni"
    bin_dir = "{CNI_BIN}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#
    )
}

fn conflist(bridge: &str, subnet: &str, ipam: &Path) -> serde_json::Value {
    serde_json::json!({
        "cniVersion": "0.4.0", "name": bridge,
        "plugins": [
            {"type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": false, "hairpinMode": true,
             "ipam": {"type": "host-local", "dataDir": ipam, "ranges": [[{"subnet": subnet}]],
                      "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "loopback"},
            {"type": "portmap", "capabilities": {"portMappings": true}}
        ]
    })
}
