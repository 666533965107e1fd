//! Parts of a site with several CloudCores: an API server of its own, replicas, edges behind a balancer.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::cloud::NODE_IDENTITY;
use crate::process::Process;
use crate::programs::Programs;
use crate::wait::PATIENCE;
use crate::{account, cloud, given, ports, process, wait};

/// The embedded API server as a process of its own, or that of the [given cluster](given::kubeconfig).
pub struct ApiServer {
    pub kubeconfig: PathBuf,
    /// Where there is none, the cluster's is used.
    _process: Option<Process>,
}

impl ApiServer {
    pub fn start(programs: &Programs, root: &Path) -> Result<ApiServer> {
        ApiServer::start_with(programs, root, &[])
    }

    /// Like [`ApiServer::start`], with more arguments.
    pub fn start_with(programs: &Programs, root: &Path, arguments: &[&str]) -> Result<ApiServer> {
        std::fs::create_dir_all(root)?;
        let kubeconfig = root.join("admin.kubeconfig");
        let mut command = Command::new(programs.path("apiserver"));
        command.arg("--data-dir").arg(root.join("data"));
        command.arg("--listen").arg(format!("127.0.0.1:{}", ports::free()?));
        command.arg("--admin-kubeconfig").arg(&kubeconfig);
        command.args(arguments);
        let mut started = Process::start(command, "apiserver", &root.join("apiserver.log"))?;
        wait::for_true("the API server's kubeconfig", PATIENCE, || {
            started.check()?;
            Ok(kubeconfig.exists())
        })?;
        Ok(ApiServer { kubeconfig, _process: Some(started) })
    }

    /// The given cluster's if there is one, which has its own arguments.
    pub fn given_or_start(programs: &Programs, root: &Path, arguments: &[&str]) -> Result<ApiServer> {
        match given::kubeconfig() {
            Some(kubeconfig) => Ok(ApiServer { kubeconfig, _process: None }),
            None => ApiServer::start_with(programs, root, arguments),
        }
    }
}

/// A program that keadm configured under a root of its own; stopped when dropped.
pub struct Installed {
    pub root: PathBuf,
    name: &'static str,
    binary: PathBuf,
}

impl Installed {
    fn new(programs: &Programs, root: &Path, name: &'static str) -> Installed {
        Installed { root: root.to_owned(), name, binary: programs.path(name) }
    }

    pub fn start(&self) -> Result<()> {
        for folder in ["var/log/kubeedge", "var/lib/kubeedge"] {
            std::fs::create_dir_all(self.root.join(folder))?;
        }
        cloud::start(&self.binary, &self.root, self.name)
    }

    fn pid_file(&self) -> PathBuf {
        self.root.join(format!("var/lib/kubeedge/{}.pid", self.name))
    }

    pub fn pid(&self) -> Result<i32> {
        process::running(&self.pid_file(), self.name).with_context(|| format!("{} is not running", self.name))
    }

    pub fn kill9(&self) -> Result<()> {
        process::signal(&self.pid_file(), self.name, Signal::KILL)
    }

    pub fn log(&self) -> Result<String> {
        let path = self.root.join(format!("var/log/kubeedge/{}.log", self.name));
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = process::signal(&self.pid_file(), self.name, Signal::TERM);
        let _ = process::signal(&self.pid_file(), self.name, Signal::KILL);
    }
}

/// One CloudCore of several.
pub struct Replica {
    pub program: Installed,
    pub edge: SocketAddr,
    pub certificates: SocketAddr,
    health: SocketAddr,
}

impl Replica {
    /// Makes CloudCore's [account] with the rights of the administrator's `kubeconfig`, writes the configuration
    /// and starts nothing.
    pub fn prepare(programs: &Programs, root: &Path, kubeconfig: &Path) -> Result<Replica> {
        Replica::prepare_with(programs, root, kubeconfig, &[])
    }

    /// Like [`Replica::prepare`], with more settings (`key.path=value`).
    pub fn prepare_with(
        programs: &Programs,
        root: &Path,
        kubeconfig: &Path,
        settings: &[&str],
    ) -> Result<Replica> {
        let local = || Ok::<_, anyhow::Error>(SocketAddr::from(([127, 0, 0, 1], ports::free()?)));
        let (edge, certificates, health) = (local()?, local()?, local()?);
        let account = account::kubeconfig(kubeconfig, root, settings.contains(&NODE_IDENTITY))?;
        let (root_text, kubeconfig) = (root.to_string_lossy(), account.to_string_lossy());
        let ports = [
            format!("modules.cloudHub.websocket.port={}", edge.port()),
            format!("modules.cloudHub.https.port={}", certificates.port()),
            format!("commonConfig.monitorServer.bindAddress={health}"),
        ];
        let mut arguments =
            vec!["init", "--process", "--no-start", "--root", &root_text, "--kube-config", &kubeconfig];
        let all = ports.iter().map(String::as_str).chain(settings.iter().copied());
        arguments.extend(all.flat_map(|setting| ["--set", setting]));
        programs.keadm(&arguments)?;
        let program = Installed::new(programs, root, "cloudcore");
        Ok(Replica { program, edge, certificates, health })
    }

    /// Waits until it serves edges.
    pub fn wait_ready(&self) -> Result<()> {
        wait::for_true("CloudCore ready", PATIENCE, || Ok(self.is_ready()))
    }

    pub fn is_ready(&self) -> bool {
        use std::io::{Read, Write};
        let Ok(mut stream) = std::net::TcpStream::connect(self.health) else { return false };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
        let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
    }
}
