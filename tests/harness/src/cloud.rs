//! A cloud side of its own, set up by keadm.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::kubectl::Kubectl;
use crate::programs::Programs;
use crate::{account, given, ports, process, wait};

/// The setting with which nodes ask the API server as themselves.
pub const NODE_IDENTITY: &str = "modules.dynamicController.nodeIdentity=true";
const DYNAMIC: &str = "modules.dynamicController.";

/// CloudCore, with its embedded API server or on a cluster, under its own root.
pub struct Cloud {
    pub root: PathBuf,
    kubeconfig: PathBuf,
    pub edge_port: u16,
    pub quic_port: u16,
    pub cert_port: u16,
    pub health_port: u16,
    programs: Programs,
}

impl Cloud {
    /// `keadm init --standalone` under `root`, on free ports.
    pub fn init(programs: &Programs, root: &Path) -> Result<Cloud> {
        Cloud::init_with(programs, root, &[])
    }

    /// Like [`Cloud::init`], with more settings (`key.path=value`).
    pub fn init_with(programs: &Programs, root: &Path, settings: &[&str]) -> Result<Cloud> {
        Cloud::init_on(None, programs, root, settings)
    }

    /// Like [`Cloud::init_with`], on the [given cluster](given::kubeconfig) if there is one. Beside such a cluster CloudCore has of
    /// the settings those of its DynamicController: the others are for the embedded API server.
    pub fn init_on_given(programs: &Programs, root: &Path, settings: &[&str]) -> Result<Cloud> {
        let Some(given) = given::kubeconfig() else { return Cloud::init_with(programs, root, settings) };
        // Its API server reaches nodes through the stream server.
        let streams = given::stream_server(ports::free()?, ports::free()?, &given::address().to_string());
        let own = settings.iter().copied().filter(|setting| setting.starts_with(DYNAMIC));
        let settings: Vec<&str> = streams.iter().map(String::as_str).chain(own).collect();
        Cloud::init_on(Some(&given), programs, root, &settings)
    }

    /// Like [`Cloud::init_with`], on the cluster of the administrator's `kubeconfig` if one is given, in which CloudCore has an
    /// [account].
    pub fn init_on(
        kubeconfig: Option<&Path>,
        programs: &Programs,
        root: &Path,
        settings: &[&str],
    ) -> Result<Cloud> {
        let (edge_port, cert_port, health_port, api_port) =
            (ports::free()?, ports::free()?, ports::free()?, ports::free()?);
        let quic_port = ports::free()?;
        let cloud = Cloud {
            root: root.to_owned(),
            kubeconfig: kubeconfig.map_or_else(|| root.join("etc/kubeedge/admin.kubeconfig"), Path::to_owned),
            edge_port,
            quic_port,
            cert_port,
            health_port,
            programs: programs.clone(),
        };
        let ports = [
            format!("modules.cloudHub.websocket.port={edge_port}"),
            format!("modules.cloudHub.quic.port={quic_port}"),
            "modules.cloudHub.quic.enable=true".to_owned(),
            format!("modules.cloudHub.https.port={cert_port}"),
            format!("commonConfig.monitorServer.bindAddress=127.0.0.1:{health_port}"),
            format!("modules.standalone.listen=127.0.0.1:{api_port}"),
        ];
        let as_nodes = settings.contains(&NODE_IDENTITY);
        let account = kubeconfig.map(|admin| account::kubeconfig(admin, root, as_nodes)).transpose()?;
        let given = account.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let mut arguments = match account {
            Some(_) => vec!["init", "--process", "--kube-config", &given],
            None => vec!["init", "--standalone"],
        };
        let all = ports.iter().map(String::as_str).chain(settings.iter().copied());
        arguments.extend(all.flat_map(|setting| ["--set", setting]));
        cloud.keadm(&arguments)?;
        Ok(cloud)
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone()
    }

    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.kubeconfig())
    }

    pub fn token(&self) -> Result<String> {
        let kubeconfig = self.kubeconfig.to_string_lossy();
        Ok(self.keadm(&["gettoken", "--kube-config", &kubeconfig])?.trim().to_owned())
    }

    /// Runs `keadm` for this cloud's root.
    pub fn keadm(&self, arguments: &[&str]) -> Result<String> {
        let root = self.root.to_string_lossy();
        self.programs.keadm(&[arguments, &["--root", &root]].concat())
    }

    pub fn edge_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.edge_port))
    }

    pub fn log(&self) -> PathBuf {
        self.root.join("var/log/kubeedge/cloudcore.log")
    }

    fn pid_file(&self) -> PathBuf {
        self.root.join("var/lib/kubeedge/cloudcore.pid")
    }

    pub fn pid(&self) -> Result<i32> {
        process::running(&self.pid_file(), "cloudcore").context("cloudcore is not running")
    }

    pub fn kill9(&self) -> Result<()> {
        process::signal(&self.pid_file(), "cloudcore", Signal::KILL)
    }

    /// Starts CloudCore again after [`Cloud::kill9`] and waits until it serves edges.
    pub fn start(&self) -> Result<()> {
        start(&self.programs.path("cloudcore"), &self.root, "cloudcore")?;
        wait::for_true("CloudCore ready", Duration::from_secs(30), || {
            self.pid()?;
            Ok(std::net::TcpStream::connect(self.edge_address()).is_ok())
        })
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = process::signal(&self.pid_file(), "cloudcore", Signal::TERM);
        let _ = process::signal(&self.pid_file(), "cloudcore", Signal::KILL);
    }
}

/// Starts a program the way keadm does: in the background, log appended, pid file written.
pub(crate) fn start(binary: &Path, root: &Path, name: &str) -> Result<()> {
    let log = root.join(format!("var/log/kubeedge/{name}.log"));
    let output = File::options().create(true).append(true).open(&log);
    let output = output.with_context(|| format!("opening {}", log.display()))?;
    let mut child = Command::new(binary)
        .arg("--config")
        .arg(root.join(format!("etc/kubeedge/config/{name}.yaml")))
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("starting {}", binary.display()))?;
    std::fs::write(root.join(format!("var/lib/kubeedge/{name}.pid")), format!("{}\n", child.id()))?;
    // Reaps it whenever it ends, so that its pid is never mistaken for a running process.
    std::thread::spawn(move || child.wait());
    Ok(())
}
