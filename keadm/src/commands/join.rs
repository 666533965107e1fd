//! `keadm join`: writes edgecore.yaml and the join token, starts EdgeCore, waits for its certificate. A join that does
//! not end well takes back what it wrote.

mod config;
mod preflight;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use api::config::edgecore::EdgeCoreConfig;
use clap::Args;

use super::write_config;
use crate::layout::Layout;
use crate::program::Program;
use crate::program::log::{self, Log};
use crate::undo::Undo;
use crate::{labels, render, script, set};

#[derive(Args)]
pub(crate) struct Flags {
    /// Address of CloudCore: host:port, an IPv6 address in brackets.
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
    /// Endpoint of the container runtime; default: containerd's.
    #[arg(short = 'p', long)]
    remote_runtime_endpoint: Option<String>,
    /// cgroupfs (the default) or systemd; a runtime that tells wins.
    #[arg(long, value_parser = ["cgroupfs", "systemd"])]
    cgroupdriver: Option<String>,
    /// Labels of the node: k=v, separated by commas.
    #[arg(short, long, value_delimiter = ',', value_parser = labels::read)]
    labels: Vec<(String, String)>,
    /// Change keys of edgecore.yaml: key.path=value[,...], repeatable.
    #[arg(long)]
    set: Vec<String>,
    /// websocket, or quic (port 10001 where --cloudcore-ipport names port 10000, else the port named there).
    #[arg(long, default_value = "websocket", value_parser = ["websocket", "quic"])]
    hub_protocol: String,
    /// Take the name over if another machine is connected by it.
    #[arg(long)]
    take_over: bool,
    /// Script or program to run before joining.
    #[arg(long)]
    pre_run: Option<PathBuf>,
    /// Script or program to run after joining.
    #[arg(long)]
    post_run: Option<PathBuf>,
    /// Accepted for KubeEdge's sake; certificates are always under /etc/kubeedge.
    #[arg(long = "certPath", hide = true)]
    _cert_path: Option<String>,
    /// Accepted for KubeEdge's sake, with or without a value; the binary beside keadm is used.
    #[arg(long = "kubeedge-version", hide = true, num_args = 0..=1)]
    _kubeedge_version: Option<Option<String>>,
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
/// How often EdgeCore's log is looked at for what it is waiting for.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) async fn run(flags: Flags) -> anyhow::Result<()> {
    let layout = Layout::new(flags.root.as_deref())?;
    config::node_name(&flags.edgenode_name)?;
    pki::token::JoinToken::parse(&flags.token).context("--token")?;
    let path = layout.edgecore_config();
    let program = Program { name: "edgecore", layout: &layout };
    let base = config::base(&path)?;
    let is_there = base.is_some();
    let config = set::apply(&config::with_flags(base, &flags, &layout)?, &flags.set)?;
    if is_there {
        if Path::new(&config.modules.edge_hub.tls_cert_file).exists() {
            let undo = format!("keadm reset edge{}", layout.flag());
            bail!("{} exists: this machine has joined already; {undo} undoes that", path.display());
        }
        render::done(&format!("taking {} as it is, with what the flags say", path.display()));
    }
    config::check(&config)?;
    if let Some(file) = &flags.pre_run {
        script::run(file)?;
    }
    if !flags.no_start {
        // What an earlier join that was broken off left running.
        program.stop().await?;
        preflight::check(&config).await?;
    }
    let undo = remember(&layout, &config)?;
    let stop = daemon::stop::on_signals().context("listening for signals")?;
    let joined = tokio::select! {
        biased;
        _ = stop.cancelled() => Err(anyhow::anyhow!("interrupted")),
        joined = join(&flags, &config, &layout, &program) => joined,
    };
    if let Err(error) = joined {
        program.stop().await.context("stopping EdgeCore after a join that failed")?;
        undo.restore()?;
        return Err(error.context("this node has not joined, and what was written is taken back"));
    }
    if flags.no_start {
        return Ok(());
    }
    if let Some(file) = &flags.post_run {
        script::run(file)?;
    }
    render::next(&format!("kubectl get node {} -o wide", config.modules.edged.hostname_override));
    Ok(())
}

async fn join(
    flags: &Flags,
    config: &EdgeCoreConfig,
    layout: &Layout,
    program: &Program<'_>,
) -> anyhow::Result<()> {
    let path = layout.edgecore_config();
    write_config(&path, config)?;
    render::done(&format!("wrote {}", path.display()));
    let token_file = Path::new(&config.modules.edge_hub.token_file);
    pki::files::write_atomic(token_file, flags.token.as_bytes(), 0o600)?;
    if flags.no_start {
        let (binary, path) = (program.binary()?, path.to_string_lossy());
        render::next(&format!(
            "{} --config {}",
            render::word(&binary.to_string_lossy()),
            render::word(&path)
        ));
        return Ok(());
    }
    let log = program.log();
    program.start(&path)?;
    wait_for_certificate(program, &log, config).await
}

/// What a join writes, and what EdgeCore makes before it has its certificate.
fn remember(layout: &Layout, config: &EdgeCoreConfig) -> anyhow::Result<Undo> {
    let (hub, database) = (&config.modules.edge_hub, &config.database.data_source);
    let mut made = vec![
        hub.tls_ca_file.clone(),
        hub.tls_cert_file.clone(),
        hub.tls_private_key_file.clone(),
        database.clone(),
        format!("{database}-wal"),
        format!("{database}-shm"),
    ];
    made.extend(Some(config.database.secrets_key_file.clone()).filter(|file| !file.is_empty()));
    let written = vec![layout.edgecore_config(), PathBuf::from(&hub.token_file)];
    Undo::remember(written, made.into_iter().map(PathBuf::from).collect())
}

async fn wait_for_certificate(
    program: &Program<'_>,
    log: &Log,
    config: &EdgeCoreConfig,
) -> anyhow::Result<()> {
    let hub = &config.modules.edge_hub;
    let (node, certificate) = (&config.modules.edged.hostname_override, Path::new(&hub.tls_cert_file));
    render::done(&format!(
        "waiting for {} to give node {node} its certificate, up to {} s",
        hub.http_server,
        JOIN_TIMEOUT.as_secs()
    ));
    let last = || log.last(log::OF_A_JOIN).unwrap_or_else(|| "EdgeCore said nothing".to_owned());
    let ready = async {
        while !certificate.exists() {
            if program.has_ended() {
                bail!("EdgeCore ended: {}\n(log: {})", last(), log.shown());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    };
    let told = async {
        let mut told = None;
        loop {
            let reason = log.last(log::OF_A_JOIN);
            if reason != told
                && let Some(reason) = &reason
            {
                render::done(&format!("not yet: {reason}"));
            }
            told = reason;
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        biased;
        ready = ready => ready?,
        () = told => {}
        () = tokio::time::sleep(JOIN_TIMEOUT) => {
            bail!("no certificate after {} s: {}\n(log: {})", JOIN_TIMEOUT.as_secs(), last(), log.shown())
        }
    }
    render::done(&format!("node {node} has its certificate"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_that_is_taken_back_takes_the_key_of_stored_secrets_unless_it_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(folder.path())).unwrap();
        let key = folder.path().join("key");
        let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let mut config = EdgeCoreConfig::default();
        let hub = &mut config.modules.edge_hub;
        hub.token_file = file("token");
        [hub.tls_ca_file, hub.tls_cert_file, hub.tls_private_key_file] = ["ca", "c", "k"].map(file);
        config.database.data_source = file("db");
        config.database.secrets_key_file = file("key");
        for was_there in [false, true] {
            let remembered = remember(&layout, &config).unwrap();
            std::fs::write(&key, "made by EdgeCore").unwrap();
            remembered.restore().unwrap();
            assert_eq!(key.exists(), was_there);
            std::fs::write(&key, "was there").unwrap();
        }
    }
}
