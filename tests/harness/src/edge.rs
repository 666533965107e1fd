//! An edge node of its own, joined by keadm.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::cloud::{self, Cloud};
use crate::containerd::unmount_below;
use crate::ports;
use crate::process;
use crate::programs::{self, Programs};

/// EdgeCore under its own root.
pub struct Edge {
    pub node: String,
    pub root: PathBuf,
    pub mqtt_port: u16,
    programs: Programs,
}

/// Where a cloud lets edges in, and its join token.
pub struct Doors {
    /// The WebSocket server, or a relay to it.
    pub link: SocketAddr,
    pub cert_port: u16,
    pub quic_port: u16,
    pub token: String,
}

impl Edge {
    /// `keadm join` under `root`. `link` is where the edge connects to: the cloud or a relay. `runtime` is the CRI
    /// endpoint; without one the node runs no pods.
    pub fn join(
        programs: &Programs,
        cloud: &Cloud,
        node: &str,
        root: &Path,
        link: SocketAddr,
        runtime: Option<&Path>,
    ) -> Result<Edge> {
        Edge::join_with(programs, cloud, node, root, link, runtime, &[])
    }

    /// Like [`Edge::join`], with more settings (`key.path=value`).
    pub fn join_with(
        programs: &Programs,
        cloud: &Cloud,
        node: &str,
        root: &Path,
        link: SocketAddr,
        runtime: Option<&Path>,
        settings: &[&str],
    ) -> Result<Edge> {
        let token = cloud.token()?;
        let doors = Doors { link, cert_port: cloud.cert_port, quic_port: cloud.quic_port, token };
        Edge::join_at(programs, &doors, node, root, runtime, settings)
    }

    /// Joins whatever cloud listens there.
    pub fn join_at(
        programs: &Programs,
        doors: &Doors,
        node: &str,
        root: &Path,
        runtime: Option<&Path>,
        settings: &[&str],
    ) -> Result<Edge> {
        let (edge, keadm) = Edge::to_join(programs, doors, node, root, runtime, settings)?;
        programs::run(keadm)?;
        Ok(edge)
    }

    /// The node, and the `keadm join` that makes it: for those who do not wait for it to its end.
    pub fn to_join(
        programs: &Programs,
        doors: &Doors,
        node: &str,
        root: &Path,
        runtime: Option<&Path>,
        settings: &[&str],
    ) -> Result<(Edge, Command)> {
        let mqtt_port = ports::free()?;
        let edge =
            Edge { node: node.to_owned(), root: root.to_owned(), mqtt_port, programs: programs.clone() };
        let runtime = runtime.map(|socket| format!("unix://{}", socket.display()));
        let (link, cert_port) = (doors.link.to_string(), doors.cert_port.to_string());
        let mqtt = format!("modules.eventBus.mqttServerInternal=tcp://127.0.0.1:{mqtt_port}");
        let edged = format!("modules.edged.enable={}", runtime.is_some());
        // Two sites on one machine must not share cgroups.
        let cgroup = format!("modules.edged.tailoredKubeletConfig.cgroupRoot=/{}", edge.cgroup());
        let quic = format!("modules.edgeHub.quic.server=127.0.0.1:{}", doors.quic_port);
        // How full the disk of this machine is has nothing to do with what is tried or shown here.
        let eviction = "modules.edged.tailoredKubeletConfig.evictionHard={}";
        let root_text = root.to_string_lossy().into_owned();
        let mut arguments = vec![
            "join",
            "-e",
            &link,
            "-s",
            &cert_port,
            "-t",
            &doors.token,
            "-i",
            node,
            "--root",
            &root_text,
            "--set",
            &mqtt,
            "--set",
            &edged,
            "--set",
            &cgroup,
            "--set",
            &quic,
            "--set",
            eviction,
        ];
        if let Some(runtime) = &runtime {
            arguments.extend(["-p", runtime]);
        }
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let mut keadm = Command::new(programs.path("keadm"));
        keadm.args(&arguments);
        Ok((edge, keadm))
    }

    /// The name of the cgroup above those of its pods.
    pub fn cgroup(&self) -> String {
        format!("causeway-{}", self.mqtt_port)
    }

    pub fn log(&self) -> PathBuf {
        self.root.join("var/log/kubeedge/edgecore.log")
    }

    pub fn database(&self) -> PathBuf {
        self.root.join("var/lib/kubeedge/edgecore.db")
    }

    pub fn pod_logs(&self) -> PathBuf {
        self.root.join("var/log/pods")
    }

    pub fn dmi_socket(&self) -> PathBuf {
        self.root.join("etc/kubeedge/dmi.sock")
    }

    fn pid_file(&self) -> PathBuf {
        self.root.join("var/lib/kubeedge/edgecore.pid")
    }

    pub fn pid(&self) -> Result<i32> {
        process::running(&self.pid_file(), "edgecore").context("edgecore is not running")
    }

    pub fn kill9(&self) -> Result<()> {
        process::signal(&self.pid_file(), "edgecore", Signal::KILL)
    }

    /// Starts EdgeCore again after [`Edge::kill9`].
    pub fn start(&self) -> Result<()> {
        cloud::start(&self.programs.path("edgecore"), &self.root, "edgecore")
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = process::signal(&self.pid_file(), "edgecore", Signal::TERM);
        let _ = process::signal(&self.pid_file(), "edgecore", Signal::KILL);
        // EdgeCore leaves its pods and their volumes when it stops; the folder cannot go while they are mounted.
        unmount_below(&self.root);
    }
}
