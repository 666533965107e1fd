//! `keadm join`: writes edgecore.yaml and the join token, starts EdgeCore, waits for its certificate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use api::config::edgecore::EdgeCoreConfig;
use clap::Args;
use message::NodeName;

use super::write_config;
use crate::layout::Layout;
use crate::program::Program;
use crate::{render, set};

#[derive(Args)]
pub struct Flags {
    /// Address of CloudCore: host:port.
    #[arg(short = 'e', long)]
    cloudcore_ipport: String,
    /// Name of this node; default: the host's name.
    #[arg(short = 'i', long, default_value = "")]
    edgenode_name: String,
    /// Join token, from `keadm gettoken`.
    #[arg(short, long)]
    token: String,
    /// Port CloudCore gives certificates on.
    #[arg(short = 's', long, default_value_t = 10002)]
    certport: u16,
    /// Endpoint of the container runtime.
    #[arg(short = 'p', long, default_value = "unix:///run/containerd/containerd.sock")]
    remote_runtime_endpoint: String,
    /// cgroupfs or systemd; a runtime that tells wins.
    #[arg(long, default_value = "cgroupfs", value_parser = ["cgroupfs", "systemd"])]
    cgroupdriver: String,
    /// Labels of the node: k=v, separated by commas.
    #[arg(short, long, value_delimiter = ',')]
    labels: Vec<String>,
    /// Change a key of edgecore.yaml: key.path=value, repeatable.
    #[arg(long)]
    set: Vec<String>,
    /// websocket (the only protocol of this version).
    #[arg(long, default_value = "websocket", value_parser = ["websocket"])]
    hub_protocol: String,
    /// Program to run before joining.
    #[arg(long)]
    pre_run: Option<PathBuf>,
    /// Program to run after joining.
    #[arg(long)]
    post_run: Option<PathBuf>,
    /// Accepted for KubeEdge's sake; certificates are always under /etc/kubeedge.
    #[arg(long = "certPath", hide = true)]
    _cert_path: Option<String>,
    /// Accepted for KubeEdge's sake; the binary beside keadm is used.
    #[arg(long = "kubeedge-version", hide = true)]
    _kubeedge_version: Option<String>,
    /// Put everything under this folder instead of /etc, /var.
    #[arg(long)]
    root: Option<PathBuf>,
    /// Write the files and start nothing.
    #[arg(long)]
    no_start: bool,
}

/// Time EdgeCore gets to obtain its certificate.
const JOIN_TIMEOUT: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(100);

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let layout = Layout::new(flags.root.as_deref())?;
    let node = node_name(&flags.edgenode_name)?;
    pki::token::JoinToken::parse(&flags.token).context("--token")?;
    let path = layout.edgecore_config();
    if path.exists() {
        bail!("{} exists: this machine has joined already; keadm reset undoes that", path.display());
    }
    if let Some(program) = &flags.pre_run {
        run_program(program)?;
    }
    let config = set::apply(&config(&flags, &node, &layout)?, &flags.set)?;
    write_config(&path, &config)?;
    render::done(&format!("wrote {}", path.display()));
    pki::files::write_atomic(&layout.token_file(), flags.token.as_bytes(), 0o600)?;
    let program = Program { name: "edgecore", layout: &layout };
    if flags.no_start {
        render::next(&format!("{} --config {}", program.binary()?.display(), path.display()));
        return Ok(());
    }
    program.start(&path)?;
    wait_for_certificate(&program, Path::new(&config.modules.edge_hub.tls_cert_file), &layout).await?;
    render::done(&format!("node {node} has its certificate"));
    if let Some(program) = &flags.post_run {
        run_program(program)?;
    }
    render::next(&format!("kubectl get node {node} -o wide"));
    Ok(())
}

fn node_name(given: &str) -> anyhow::Result<NodeName> {
    let name = match given {
        "" => rustix::system::uname().nodename().to_string_lossy().to_lowercase(),
        name => name.to_owned(),
    };
    NodeName::new(&name).context("--edgenode-name")
}

fn config(flags: &Flags, node: &NodeName, layout: &Layout) -> anyhow::Result<EdgeCoreConfig> {
    let (host, _) = flags
        .cloudcore_ipport
        .rsplit_once(':')
        .with_context(|| format!("--cloudcore-ipport {:?}: wanted host:port", flags.cloudcore_ipport))?;
    let mut config = EdgeCoreConfig::default();
    config.database.data_source = layout.text(&config.database.data_source);
    let hub = &mut config.modules.edge_hub;
    hub.websocket.server = flags.cloudcore_ipport.clone();
    hub.http_server = format!("https://{host}:{}", flags.certport);
    for file in
        [&mut hub.tls_ca_file, &mut hub.tls_cert_file, &mut hub.tls_private_key_file, &mut hub.token_file]
    {
        *file = layout.text(file);
    }
    config.modules.device_twin.dmi_sock_path = layout.text(&config.modules.device_twin.dmi_sock_path);
    let edged = &mut config.modules.edged;
    edged.hostname_override = node.to_string();
    edged.node_labels = labels(&flags.labels)?;
    edged.root_directory = layout.text(&edged.root_directory);
    let kubelet = &mut edged.tailored_kubelet_config;
    kubelet.pod_logs_dir = layout.text(&kubelet.pod_logs_dir);
    kubelet.static_pod_path = layout.text(&kubelet.static_pod_path);
    kubelet.cgroup_driver = flags.cgroupdriver.clone();
    kubelet.container_runtime_endpoint = flags.remote_runtime_endpoint.clone();
    Ok(config)
}

fn labels(given: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    given
        .iter()
        .filter(|label| !label.is_empty())
        .map(|label| {
            let (key, value) =
                label.split_once('=').with_context(|| format!("--labels {label:?}: wanted k=v"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

fn run_program(program: &Path) -> anyhow::Result<()> {
    let status = Command::new(program).status().with_context(|| format!("running {}", program.display()))?;
    if !status.success() {
        bail!("{} ended with {status}", program.display());
    }
    Ok(())
}

async fn wait_for_certificate(
    program: &Program<'_>,
    certificate: &Path,
    layout: &Layout,
) -> anyhow::Result<()> {
    let log = layout.log(program.name);
    let ready = async {
        while !certificate.exists() {
            if layout.pid_file(program.name).exists() && program.running().is_none() {
                bail!("EdgeCore ended: {}", last_error(&log));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    };
    let timed_out = || format!("no certificate after {JOIN_TIMEOUT:?}; see {}", log.display());
    tokio::time::timeout(JOIN_TIMEOUT, ready).await.with_context(timed_out)?
}

/// The last line of a log: a program that ends says why there.
fn last_error(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let line = text.lines().last().unwrap_or("no log was written");
    format!("{line}\n(log {})", log.display())
}
