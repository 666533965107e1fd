//! `keadm init --standalone` and `--process`: writes cloudcore.yaml and starts CloudCore on this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use api::config::cloudcore::CloudCoreConfig;

use super::Flags;
use crate::commands::{gettoken, write_config};
use crate::layout::Layout;
use crate::ports::{self, Needed};
use crate::program::Program;
use crate::program::log::{self, Log};
use crate::undo::Undo;
use crate::{address, render, set};

/// Edges are on this machine, unless another address is advertised.
const LOOPBACK: &str = "127.0.0.1";
/// Time CloudCore gets to publish its token.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);

pub(super) async fn run(flags: &Flags) -> anyhow::Result<()> {
    let layout = Layout::new(flags.root.as_deref())?;
    let path = layout.cloudcore_config();
    if path.exists() && !flags.force {
        bail!("{} exists; keadm reset removes it, --force overwrites it", path.display());
    }
    let config = set::apply(&config(flags, &layout)?, &flags.set)?;
    for address in config.modules.cloud_hub.advertise_address.iter().filter(|address| !address.is_empty()) {
        address::host(address).map_err(|error| anyhow::anyhow!("--advertise-address: {error}"))?;
    }
    let program = Program { name: "cloudcore", layout: &layout };
    let kubeconfig = kubeconfig(&config);
    if !flags.no_start {
        if let Some(pid) = program.running() {
            bail!("CloudCore is running already (pid {pid}); keadm reset{} stops it", layout.flag());
        }
        if !config.modules.standalone.enable && !kubeconfig.exists() {
            bail!(
                "--kube-config {}: there is no such file; --standalone needs no cluster",
                kubeconfig.display()
            );
        }
        ports::check(&needed(&config))?;
    }
    let undo = remember(&layout, &config)?;
    let stop = daemon::stop::on_signals().context("listening for signals")?;
    let started = tokio::select! {
        biased;
        _ = stop.cancelled() => Err(anyhow::anyhow!("interrupted")),
        started = start(flags, &config, &program, &kubeconfig) => started,
    };
    if let Err(error) = started {
        program.stop().await.context("stopping CloudCore after an init that failed")?;
        undo.restore()?;
        return Err(error.context("CloudCore is not set up, and what was written is taken back"));
    }
    if !flags.no_start {
        tell(&config, &kubeconfig, &layout);
    }
    Ok(())
}

/// What an init writes, and what CloudCore makes before it is ready.
fn remember(layout: &Layout, config: &CloudCoreConfig) -> anyhow::Result<Undo> {
    let (hub, standalone) = (&config.modules.cloud_hub, &config.modules.standalone);
    let mut made = vec![
        layout.pid_file("cloudcore"),
        PathBuf::from(&hub.tls_ca_file),
        PathBuf::from(&hub.tls_ca_key_file),
        PathBuf::from(&hub.tls_cert_file),
        PathBuf::from(&hub.tls_private_key_file),
    ];
    if standalone.enable {
        made.extend([&standalone.data_dir, &standalone.admin_kubeconfig].map(PathBuf::from));
    }
    Undo::remember(vec![layout.cloudcore_config()], made)
}

/// Writes the configuration and, unless it is to be started by hand, brings CloudCore up.
async fn start(
    flags: &Flags,
    config: &CloudCoreConfig,
    program: &Program<'_>,
    kubeconfig: &Path,
) -> anyhow::Result<()> {
    let path = program.layout.cloudcore_config();
    write_config(&path, config)?;
    render::done(&format!("wrote {}", path.display()));
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
    wait_for_token(program, &log, kubeconfig, certificates(config)).await
}

/// What is there now, and what to type next.
fn tell(config: &CloudCoreConfig, kubeconfig: &Path, layout: &Layout) {
    let hub = &config.modules.cloud_hub;
    render::done(&format!("CloudCore serves edges on port {}", hub.websocket.port));
    if config.modules.standalone.enable {
        let kubeconfig = render::word(&kubeconfig.to_string_lossy());
        render::done(&format!("kubectl --kubeconfig {kubeconfig} get nodes"));
    }
    render::next(&join_command(config, layout));
}

fn join_command(config: &CloudCoreConfig, layout: &Layout) -> String {
    let hub = &config.modules.cloud_hub;
    let host = hub.advertise_address.first().map_or_else(String::new, |host| address::in_url(host));
    let address = render::word(&format!("{host}:{}", hub.websocket.port));
    let certport = match hub.https.port {
        10002 => String::new(),
        port => format!(" --certport {port}"),
    };
    format!(
        "keadm join --cloudcore-ipport {address}{certport} --token \"$(keadm gettoken{})\"",
        layout.flag()
    )
}

fn kubeconfig(config: &CloudCoreConfig) -> PathBuf {
    PathBuf::from(match config.modules.standalone.enable {
        true => &config.modules.standalone.admin_kubeconfig,
        false => &config.kube_api_config.kube_config,
    })
}

fn any() -> IpAddr {
    IpAddr::V4(Ipv4Addr::UNSPECIFIED)
}

/// The ports of this configuration. An address that cannot be read is CloudCore's to tell.
fn needed(config: &CloudCoreConfig) -> Vec<Needed> {
    let hub = &config.modules.cloud_hub;
    let mut needed = Vec::new();
    let listeners = [
        ("edges", "websocket", &hub.websocket, false),
        ("certificates", "https", &hub.https, false),
        ("edges over QUIC", "quic", &hub.quic, true),
    ];
    for (what, key, listener, udp) in listeners {
        let address = listener.address.parse().map(|ip| SocketAddr::new(ip, listener.port));
        if let Ok(address) = address
            && (!udp || listener.enable)
        {
            let change = format!("--set modules.cloudHub.{key}.port=PORT");
            needed.push(Needed { what, address, udp, change });
        }
    }
    if let Ok(address) = config.common_config.monitor_server.bind_address.parse() {
        let change = "--set commonConfig.monitorServer.bindAddress=127.0.0.1:PORT".to_owned();
        needed.push(Needed { what: "health checks", address, udp: false, change });
    }
    let streams = &config.modules.cloud_stream;
    let (streams_at, webhooks) = (any(), &config.modules.webhooks);
    let webhooks_at = webhooks.address.parse().unwrap_or(any());
    for (is_on, what, key, ip, port) in [
        (webhooks.enable, "admission webhooks", "webhooks.port", webhooks_at, webhooks.port),
        (streams.enable, "the stream server", "cloudStream.streamPort", streams_at, streams.stream_port),
        (streams.enable, "tunnels of edges", "cloudStream.tunnelPort", streams_at, streams.tunnel_port),
    ] {
        if is_on {
            let (address, change) = (SocketAddr::new(ip, port), format!("--set modules.{key}=PORT"));
            needed.push(Needed { what, address, udp: false, change });
        }
    }
    let standalone = &config.modules.standalone;
    if let Ok(address) = standalone.listen.parse()
        && standalone.enable
    {
        let change = "--set modules.standalone.listen=127.0.0.1:PORT".to_owned();
        needed.push(Needed { what: "the Kubernetes API", address, udp: false, change });
    }
    needed
}

fn config(flags: &Flags, layout: &Layout) -> anyhow::Result<CloudCoreConfig> {
    let mut config = CloudCoreConfig::default();
    let hub = &mut config.modules.cloud_hub;
    hub.advertise_address = match flags.advertise_address.is_empty() {
        true => vec![LOOPBACK.to_owned()],
        false => flags.advertise_address.clone(),
    };
    for file in [
        &mut hub.tls_ca_file,
        &mut hub.tls_ca_key_file,
        &mut hub.tls_cert_file,
        &mut hub.tls_private_key_file,
        &mut hub.unixsocket.address,
    ] {
        *file = match file.strip_prefix("unix://") {
            Some(path) => format!("unix://{}", layout.text(path)),
            None => layout.text(file),
        };
    }
    let streams = &mut config.modules.cloud_stream;
    for file in [
        &mut streams.tls_stream_ca_file,
        &mut streams.tls_stream_cert_file,
        &mut streams.tls_stream_private_key_file,
    ] {
        *file = layout.text(file);
    }
    let standalone = &mut config.modules.standalone;
    standalone.enable = flags.standalone;
    standalone.data_dir = layout.text(&standalone.data_dir);
    standalone.admin_kubeconfig = layout.text(&standalone.admin_kubeconfig);
    if !flags.standalone {
        // CloudCore may be started in another folder than this one.
        let absolute = std::path::absolute(&flags.kube_config).context("--kube-config")?;
        config.kube_api_config.kube_config = absolute.to_string_lossy().into_owned();
    }
    Ok(config)
}

/// Where this machine reaches the port for certificates: a machine may have one family only.
fn certificates(config: &CloudCoreConfig) -> Vec<SocketAddr> {
    let https = &config.modules.cloud_hub.https;
    let loopbacks = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let ip = https.address.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified());
    let ips = ip.map_or(loopbacks.to_vec(), |ip| vec![ip]);
    ips.into_iter().map(|ip| SocketAddr::new(ip, https.port)).collect()
}

async fn wait_for_token(
    program: &Program<'_>,
    log: &Log,
    kubeconfig: &Path,
    certificates: Vec<SocketAddr>,
) -> anyhow::Result<()> {
    let said = || log.last(log::OF_A_START).unwrap_or_else(|| "it said nothing".to_owned());
    let ready = async {
        let mut told = None;
        loop {
            if program.has_ended() {
                bail!("CloudCore ended: {}\n(log: {})", said(), log.shown());
            }
            // A cluster may hold a token of an earlier CloudCore; this one opens its ports once it is ready.
            let listens = tokio::net::TcpStream::connect(&certificates[..]).await.is_ok();
            if listens && kubeconfig.exists() && gettoken::read(kubeconfig).await.is_ok() {
                return Ok(());
            }
            let trouble = log.last(log::OF_A_START);
            if trouble.is_some() && trouble != told {
                render::done(&format!("not yet: {}", trouble.as_deref().unwrap_or_default()));
                told = trouble;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let timed_out =
        || format!("CloudCore is not ready after {START_TIMEOUT:?}: {}\n(log: {})", said(), log.shown());
    tokio::time::timeout(START_TIMEOUT, ready).await.with_context(timed_out)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_command_can_be_typed_as_it_is() {
        let mut config = CloudCoreConfig::default();
        config.modules.cloud_hub.advertise_address = vec!["fd00::1".into()];
        config.modules.cloud_hub.https.port = 21002;
        let layout = Layout::new(Some(Path::new("/srv/site 1"))).unwrap();
        let words = shlex::split(&join_command(&config, &layout)).unwrap();
        assert_eq!(words[3], "[fd00::1]:10000");
        assert_eq!(words[4..6], ["--certport", "21002"]);
        assert!(
            join_command(&config, &layout).ends_with("--token \"$(keadm gettoken --root '/srv/site 1')\"")
        );
    }

    #[test]
    fn every_listener_that_is_on_is_looked_at() {
        let mut config = CloudCoreConfig::default();
        assert_eq!(needed(&config).len(), 3);
        config.modules.cloud_hub.quic.enable = true;
        config.modules.standalone.enable = true;
        assert_eq!(needed(&config).len(), 5);
    }
}
