//! What is measured: an API server and a CloudCore, each a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use api::config::cloudcore::CloudCoreConfig;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloudcore::kubernetes::Cluster;
use harness::ports;
use harness::process::Process;
use pki::Authority;
use tempfile::TempDir;

use crate::Common;
use crate::cgroup::Cgroup;

pub(crate) struct Ground {
    pub cluster: Cluster,
    pub kubeconfig: PathBuf,
    pub cloud: Option<Process>,
    pub port: u16,
    pub quic_port: u16,
    pub cert_port: u16,
    programs: PathBuf,
    config: PathBuf,
    /// Where CloudCore lives, if it is confined.
    group: Option<Cgroup>,
    _api: Option<Api>,
    /// Where CloudCore tells its health and its metrics.
    pub monitor: String,
    pub scratch: TempDir,
}

/// Time a program gets to serve.
const START: Duration = Duration::from_secs(60);

impl Ground {
    /// Starts the API server, unless one is given, and CloudCore for up to `nodes` edges.
    pub(crate) async fn start(common: &Common, nodes: usize) -> Result<Ground> {
        Ground::build(None, common, nodes, 30, &[]).await
    }

    /// Like [`Ground::start`], with CloudCore in `group`.
    pub(crate) async fn start_in(group: Cgroup, common: &Common, nodes: usize) -> Result<Ground> {
        Ground::build(Some(group), common, nodes, 30, &[]).await
    }

    /// Like [`Ground::start`]; sessions that are silent for a few seconds end, and edges come by another address.
    pub(crate) async fn start_impatient(common: &Common, nodes: usize, address: &str) -> Result<Ground> {
        Ground::build(None, common, nodes, 3, &[address]).await
    }

    async fn build(
        group: Option<Cgroup>,
        common: &Common,
        nodes: usize,
        keepalive: u32,
        addresses: &[&str],
    ) -> Result<Ground> {
        let scratch = tempfile::Builder::new().prefix("causeway-load-").tempdir()?;
        let (api, kubeconfig) = match &common.kubeconfig {
            Some(given) => (None, given.clone()),
            None => {
                let api = Api::start(&common.programs, scratch.path()).await?;
                let kubeconfig = api.kubeconfig.clone();
                (Some(api), kubeconfig)
            }
        };
        let cluster = Cluster::connect(Some(kubeconfig.clone()), "").await?;
        let (port, cert_port, quic_port) = (ports::free()?, ports::free()?, ports::free()?);
        let mut config = CloudCoreConfig::default();
        config.kube_api_config.kube_config = kubeconfig.to_string_lossy().into_owned();
        let monitor = format!("127.0.0.1:{}", ports::free()?);
        config.common_config.monitor_server.bind_address = monitor.clone();
        let hub = &mut config.modules.cloud_hub;
        hub.advertise_address =
            ["127.0.0.1"].iter().chain(addresses).map(|address| (*address).to_owned()).collect();
        hub.node_limit = u32::try_from(nodes + 100)?;
        hub.keepalive_interval = keepalive;
        hub.websocket.port = port;
        hub.https.port = cert_port;
        hub.quic.port = quic_port;
        hub.quic.enable = true;
        let path = scratch.path().join("cloudcore.yaml");
        let text = daemon::config::to_yaml(&config).map_err(anyhow::Error::msg)?;
        std::fs::write(&path, text)?;
        let mut ground = Ground {
            cluster,
            kubeconfig,
            cloud: None,
            port,
            quic_port,
            cert_port,
            programs: common.programs.clone(),
            config: path,
            group,
            _api: api,
            monitor,
            scratch,
        };
        ground.start_cloud().await?;
        Ok(ground)
    }

    /// Starts CloudCore and waits until it serves edges.
    pub(crate) async fn start_cloud(&mut self) -> Result<()> {
        self.launch_cloud()?;
        self.wait_serving().await
    }

    /// Starts CloudCore and waits for nothing.
    pub(crate) fn launch_cloud(&mut self) -> Result<()> {
        let program = self.programs.join("cloudcore");
        let mut command = match &self.group {
            Some(group) => group.command(&program)?,
            None => Command::new(program),
        };
        command.arg("--config").arg(&self.config);
        self.cloud = Some(Process::start(command, "cloudcore", &self.scratch.path().join("cloudcore.log"))?);
        Ok(())
    }

    /// Waits until CloudCore's port answers.
    pub(crate) async fn wait_serving(&mut self) -> Result<()> {
        self.wait_serving_for(START).await
    }

    /// Like [`Ground::wait_serving`], for at most `patience`.
    pub(crate) async fn wait_serving_for(&mut self, patience: Duration) -> Result<()> {
        let began = harness::wait::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            self.cloud.as_mut().context("no cloudcore")?.check()?;
            anyhow::ensure!(began.elapsed() < patience, "CloudCore does not serve after {patience:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    pub(crate) fn kill_cloud(&mut self) -> Result<()> {
        self.cloud.take().context("cloudcore is not running")?.kill9()
    }

    pub(crate) fn group(&self) -> Result<&Cgroup> {
        self.group.as_ref().context("CloudCore is not confined")
    }

    pub(crate) fn cloud_pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.cloud.as_ref().context("cloudcore is not running")?.pid())?)
    }

    pub(crate) fn server(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn quic_server(&self) -> String {
        format!("127.0.0.1:{}", self.quic_port)
    }

    /// The CA that signs edges, as CloudCore keeps it in the cluster.
    pub(crate) async fn authority(&self) -> Result<Authority> {
        let secret = self.secret("casecret").await?;
        let bytes = |key: &str| -> Result<Vec<u8>> {
            Ok(STANDARD.decode(secret["data"][key].as_str().context("a key of casecret")?)?)
        };
        Ok(Authority::from_der(&bytes("cadata")?, &bytes("cakeydata")?)?)
    }

    async fn secret(&self, name: &str) -> Result<serde_json::Value> {
        let path = format!("/api/v1/namespaces/kubeedge/secrets/{name}");
        Ok(self.cluster.get(&path).await?.parse()?)
    }
}

/// An embedded API server, a process of its own.
pub(crate) struct Api {
    /// An administrator's.
    pub kubeconfig: PathBuf,
    programs: PathBuf,
    scratch: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Api {
    /// Starts one with its files in `scratch`, and waits until it serves.
    pub(crate) async fn start(programs: &Path, scratch: &Path) -> Result<Api> {
        let mut api = Api {
            kubeconfig: scratch.join("admin.kubeconfig"),
            programs: programs.to_owned(),
            scratch: scratch.to_owned(),
            port: ports::free()?,
            process: None,
        };
        api.start_again().await?;
        Ok(api)
    }

    pub(crate) fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.process.as_ref().context("the API server is not running")?.pid())?)
    }

    pub(crate) fn kill9(&mut self) -> Result<()> {
        self.process.take().context("the API server is not running")?.kill9()
    }

    /// Starts it on the same address and files.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        let mut command = Command::new(self.programs.join("apiserver"));
        command.arg("--data-dir").arg(self.scratch.join("api"));
        command.arg("--listen").arg(format!("127.0.0.1:{}", self.port));
        command.arg("--admin-kubeconfig").arg(&self.kubeconfig);
        let mut process = Process::start(command, "apiserver", &self.scratch.join("apiserver.log"))?;
        let began = harness::wait::now();
        loop {
            if self.kubeconfig.exists()
                && let Ok(cluster) = Cluster::connect(Some(self.kubeconfig.clone()), "").await
                && cluster.get("/api/v1/namespaces").await.is_ok()
            {
                self.process = Some(process);
                return Ok(());
            }
            process.check()?;
            anyhow::ensure!(began.elapsed() < START, "the API server does not serve after {START:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// CPU time of a process so far, in milliseconds.
pub(crate) fn cpu_ms(pid: i32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = text.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("stat")?.parse()?) };
    // utime and stime, in ticks of 10 ms.
    Ok((ticks(11)? + ticks(12)?) * 10.0)
}
