//! A whole site on one machine: cloud, a link that can be cut, a container runtime, an edge node, a thermometer. The
//! demo tells its steps, the end-to-end tests assert them; the steps themselves are here.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::cgroups::Cgroups;
use crate::cloud::Cloud;
use crate::containerd::Containerd;
use crate::edge::Edge;
use crate::images::{self, Image};
use crate::kubectl::Kubectl;
use crate::process::Process;
use crate::programs::Programs;
use crate::relay::Relay;
use crate::wait::PATIENCE;
use crate::{given, wait};

/// Node of the sample manifests.
pub const NODE: &str = "edge-1";
/// Image of the sample manifests.
pub const IMAGE: &str = "causeway.local/busybox:1";

const GREETER: &str = include_str!("../../../manifests/samples/greeter.yaml");
const THERMOMETER: &str = include_str!("../../../manifests/samples/thermometer.yaml");

/// Parts stop in the order of the fields.
pub struct Site {
    pub thermometer: Option<Process>,
    pub edge: Edge,
    pub relay: Relay,
    pub containerd: Option<Containerd>,
    _cgroups: Cgroups,
    pub cloud: Cloud,
    pub programs: Programs,
    runtime: tokio::runtime::Runtime,
    scratch: TempDir,
}

/// A started container of the sample pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub name: String,
    pub id: String,
    pub restarts: u64,
}

impl Site {
    /// Starts everything; `say` is told each step. With `pods` there is a container runtime.
    pub fn start(programs: &Programs, pods: bool, say: impl FnMut(&str)) -> Result<Site> {
        Site::start_with(programs, pods, &[], say)
    }

    /// Like [`Site::start`], with settings of EdgeCore (`key.path=value`).
    pub fn start_with(programs: &Programs, pods: bool, edge: &[&str], say: impl FnMut(&str)) -> Result<Site> {
        Site::start_on(programs, pods, (&[], edge), say)
    }

    /// Like [`Site::start`], with settings of CloudCore and of EdgeCore.
    pub fn start_on(
        programs: &Programs,
        pods: bool,
        (own, edge): (&[&str], &[&str]),
        mut say: impl FnMut(&str),
    ) -> Result<Site> {
        let scratch =
            tempfile::Builder::new().prefix("causeway-").tempdir().context("making a scratch folder")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mut containerd = None;
        if pods {
            say("starting a private containerd and making its images");
            let started = runtime.block_on(Containerd::start(&scratch.path().join("cri"), true))?;
            runtime.block_on(started.import(&images::busybox(IMAGE)))?;
            containerd = Some(started);
        }
        match given::kubeconfig() {
            Some(kubeconfig) => {
                say(&format!("keadm init: CloudCore beside the cluster of {}", kubeconfig.display()))
            }
            None => say("keadm init --standalone: CloudCore with its embedded API server"),
        }
        given::forget(NODE)?;
        let cloud = Cloud::init_on_given(programs, &scratch.path().join("cloud"), own)?;
        let relay = Relay::start(cloud.edge_address())?;
        say(&format!("keadm join: EdgeCore as node {NODE}"));
        let endpoint = containerd.as_ref().map(|containerd| containerd.socket());
        let socket = endpoint.as_ref().map(|endpoint| Path::new(endpoint.trim_start_matches("unix://")));
        let root = scratch.path().join("edge");
        let edge = Edge::join_with(programs, &cloud, NODE, &root, relay.address(), socket, edge)?;
        let programs = programs.clone();
        let _cgroups = Cgroups(edge.cgroup());
        Ok(Site { thermometer: None, edge, relay, containerd, _cgroups, cloud, programs, runtime, scratch })
    }

    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    pub fn kubectl(&self) -> Kubectl {
        self.cloud.kubectl()
    }

    pub fn containerd(&self) -> Result<&Containerd> {
        self.containerd.as_ref().context("this site has no container runtime")
    }

    /// Makes an image present.
    pub fn import(&self, image: &Image) -> Result<()> {
        self.runtime.block_on(self.containerd()?.import(image))
    }

    /// Runs `ctr` against the site's runtime.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String> {
        self.runtime.block_on(self.containerd()?.ctr(arguments))
    }

    pub fn node_ready(&self) -> Result<()> {
        let path = ".status.conditions[?(@.type==\"Ready\")].status";
        wait::for_true("node Ready", PATIENCE, || Ok(self.kubectl().field("node", NODE, path)? == "True"))
    }

    pub fn apply_greeter(&self) -> Result<()> {
        self.kubectl().apply(GREETER).map(|_| ())
    }

    /// Waits until both containers of the pod run and the API says so.
    pub fn pod_running(&self) -> Result<Vec<Running>> {
        wait::until("pod greeter Running with both containers ready", PATIENCE, || {
            let pod = self.kubectl().get("pod", "greeter")?;
            let ready = pod["status"]["containerStatuses"].as_array().is_some_and(|containers| {
                containers.len() == 2 && containers.iter().all(|container| container["ready"] == true)
            });
            Ok((ready && pod["status"]["phase"] == "Running").then(|| containers_of(&pod)))
        })
    }

    /// Waits for a line of the greeter that contains `text`, read from its log file on disk.
    pub fn log_line(&self, text: &str) -> Result<String> {
        wait::until(&format!("log line with {text:?}"), PATIENCE, || {
            Ok(self.log_lines()?.into_iter().rev().find(|line| line.contains(text)))
        })
    }

    fn log_lines(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        let mut files: Vec<PathBuf> = Vec::new();
        for pod in std::fs::read_dir(self.edge.pod_logs())? {
            let folder = pod?.path().join("greeter");
            if folder.is_dir() {
                files.extend(std::fs::read_dir(folder)?.flatten().map(|entry| entry.path()));
            }
        }
        files.sort();
        for file in files {
            lines.extend(std::fs::read_to_string(file)?.lines().map(str::to_owned));
        }
        Ok(lines)
    }

    /// Starts the virtual mapper and waits until EdgeCore serves mappers.
    pub fn start_thermometer(&mut self) -> Result<()> {
        let socket = self.edge.dmi_socket();
        wait::for_true("EdgeCore's DMI socket", PATIENCE, || Ok(socket.exists()))?;
        let own = self.folder().join("virtual.sock");
        let config = self.folder().join("virtual.yaml");
        let text = format!(
            "grpc_server: {{socket_path: {}}}\ncommon: {{name: virtual-mapper, version: v1.0.0, api_version: v1.0.0, \
             protocol: virtual, address: 127.0.0.1, edgecore_sock: {}}}\n",
            own.display(),
            socket.display()
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(self.programs.path("mapper-virtual"));
        command.arg("--config-file").arg(&config);
        self.thermometer =
            Some(Process::start(command, "mapper-virtual", &self.folder().join("mapper.log"))?);
        Ok(())
    }

    pub fn apply_thermometer(&self) -> Result<()> {
        self.kubectl().apply(THERMOMETER).map(|_| ())
    }

    /// The reported value of a property in DeviceStatus; empty if there is none yet.
    pub fn reported(&self, property: &str) -> Result<String> {
        let path = format!(".status.twins[?(@.propertyName==\"{property}\")].reported.value");
        self.kubectl().field("devicestatus", "thermometer", &path)
    }

    pub fn wait_reported(&self, property: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        wait::until(&format!("reported {property} of the thermometer"), PATIENCE, || {
            Ok(Some(self.reported(property)?).filter(|value| wanted(value)))
        })
    }

    /// Sets the desired threshold as an operator does.
    pub fn set_threshold(&self, value: &str) -> Result<()> {
        let patch = format!(
            "[{{\"op\":\"replace\",\"path\":\"/spec/properties/1/desired/value\",\"value\":\"{value}\"}}]"
        );
        self.kubectl().run(&["patch", "device", "thermometer", "--type=json", "-p", &patch]).map(|_| ())
    }

    pub fn set_greeting(&self, text: &str) -> Result<()> {
        let patch = format!("{{\"data\":{{\"text\":\"{text}\"}}}}");
        self.kubectl().run(&["patch", "configmap", "greeting", "-p", &patch]).map(|_| ())
    }

    /// Kills a container behind EdgeCore's back.
    pub fn kill_container(&self, id: &str) -> Result<()> {
        let id = id.rsplit('/').next().unwrap_or(id);
        self.ctr(&["-n", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", id]).map(|_| ())
    }

    /// Ids of running containers (sandboxes among them), as the runtime tells.
    pub fn running_tasks(&self) -> Result<Vec<String>> {
        let text = self.ctr(&["-n", "k8s.io", "tasks", "ls"])?;
        let running = text.lines().skip(1).filter(|line| line.contains("RUNNING"));
        Ok(running.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
    }

    /// Kills and removes every container and sandbox. While EdgeCore runs it would start them again at the same time.
    pub fn remove_all_containers(&self) -> Result<()> {
        ensure!(self.edge.pid().is_err(), "containers are removed behind EdgeCore's back while it runs");
        let text = self.ctr(&["-n", "k8s.io", "containers", "ls", "-q"])?;
        for id in text.split_whitespace() {
            // A container without a task has nothing to kill.
            let _ = self.ctr(&["-n", "k8s.io", "tasks", "delete", "--force", id]);
            self.ctr(&["-n", "k8s.io", "containers", "delete", id])?;
        }
        wait::for_true("no container left", PATIENCE, || Ok(self.running_tasks()?.is_empty()))
    }

    fn logs(&self) -> [PathBuf; 4] {
        let own = |name: &str| self.folder().join(name);
        [self.cloud.log(), self.edge.log(), own("cri/containerd.log"), own("mapper.log")]
    }

    /// Where the logs are kept once the site is gone, replaced by the next site's.
    pub fn kept_logs(&self) -> PathBuf {
        self.programs.path("site-logs")
    }

    /// Returns when the person at the terminal presses Ctrl-C.
    pub fn wait_for_interrupt(&self) -> Result<()> {
        self.runtime.block_on(tokio::signal::ctrl_c()).context("waiting for Ctrl-C")
    }
}

impl Drop for Site {
    /// The scratch folder goes with the site; its logs are what a person needs after a failure.
    fn drop(&mut self) {
        let folder = self.kept_logs();
        let _ = std::fs::create_dir_all(&folder);
        for log in self.logs() {
            if let Some(name) = log.file_name().filter(|_| log.exists()) {
                let _ = std::fs::copy(&log, folder.join(name));
            }
        }
    }
}

fn containers_of(pod: &serde_json::Value) -> Vec<Running> {
    let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let mut running: Vec<Running> = statuses
        .map(|status| Running {
            name: status["name"].as_str().unwrap_or_default().to_owned(),
            id: status["containerID"].as_str().unwrap_or_default().to_owned(),
            restarts: status["restartCount"].as_u64().unwrap_or_default(),
        })
        .collect();
    running.sort_by(|a, b| a.name.cmp(&b.name));
    running
}
