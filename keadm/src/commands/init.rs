//! `keadm init`: writes cloudcore.yaml and starts CloudCore.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use api::config::cloudcore::CloudCoreConfig;
use clap::Args;

use super::{gettoken, write_config};
use crate::layout::Layout;
use crate::program::Program;
use crate::{render, set};

#[derive(Args)]
pub struct Flags {
    /// Serve Kubernetes from an embedded API server: one machine, nothing else needed.
    #[arg(long)]
    standalone: bool,
    /// Addresses edges reach this machine by, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1")]
    advertise_address: Vec<String>,
    /// Kubeconfig of the cluster, without --standalone.
    #[arg(long, default_value = "/root/.kube/config")]
    kube_config: PathBuf,
    /// Change a key of cloudcore.yaml: key.path=value, repeatable.
    #[arg(long)]
    set: Vec<String>,
    /// Put everything under this folder instead of /etc, /var.
    #[arg(long)]
    root: Option<PathBuf>,
    /// Write the files and start nothing.
    #[arg(long)]
    no_start: bool,
    /// Overwrite an existing configuration.
    #[arg(long)]
    force: bool,
}

/// Time CloudCore gets to publish its token.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let layout = Layout::new(flags.root.as_deref())?;
    let path = layout.cloudcore_config();
    if path.exists() && !flags.force {
        bail!("{} exists; keadm reset removes it, --force overwrites it", path.display());
    }
    let config = set::apply(&config(&flags, &layout), &flags.set)?;
    write_config(&path, &config)?;
    render::done(&format!("wrote {}", path.display()));
    let program = Program { name: "cloudcore", layout: &layout };
    if flags.no_start {
        render::next(&format!("{} --config {}", program.binary()?.display(), path.display()));
        return Ok(());
    }
    program.start(&path)?;
    let kubeconfig = if config.modules.standalone.enable {
        PathBuf::from(&config.modules.standalone.admin_kubeconfig)
    } else {
        PathBuf::from(&config.kube_api_config.kube_config)
    };
    wait_for_token(&program, &kubeconfig, &layout).await?;
    render::done(&format!("CloudCore serves edges on port {}", config.modules.cloud_hub.websocket.port));
    if config.modules.standalone.enable {
        render::done(&format!("kubectl --kubeconfig {} get nodes", kubeconfig.display()));
    }
    let address = config.modules.cloud_hub.advertise_address.first().cloned().unwrap_or_default();
    render::next(&format!(
        "keadm join --cloudcore-ipport {address}:{} --certport {} --token $(keadm gettoken{})",
        config.modules.cloud_hub.websocket.port,
        config.modules.cloud_hub.https.port,
        layout.flag(),
    ));
    Ok(())
}

fn config(flags: &Flags, layout: &Layout) -> CloudCoreConfig {
    let mut config = CloudCoreConfig::default();
    let hub = &mut config.modules.cloud_hub;
    hub.advertise_address = flags.advertise_address.clone();
    for file in [
        &mut hub.tls_ca_file,
        &mut hub.tls_ca_key_file,
        &mut hub.tls_cert_file,
        &mut hub.tls_private_key_file,
    ] {
        *file = layout.text(file);
    }
    let standalone = &mut config.modules.standalone;
    standalone.enable = flags.standalone;
    standalone.data_dir = layout.text(&standalone.data_dir);
    standalone.admin_kubeconfig = layout.text(&standalone.admin_kubeconfig);
    if !flags.standalone {
        config.kube_api_config.kube_config = flags.kube_config.to_string_lossy().into_owned();
    }
    config
}

async fn wait_for_token(program: &Program<'_>, kubeconfig: &Path, layout: &Layout) -> anyhow::Result<()> {
    let ready = async {
        loop {
            if kubeconfig.exists() && gettoken::read(kubeconfig).await.is_ok() {
                return Ok(());
            }
            if layout.pid_file(program.name).exists() && program.running().is_none() {
                bail!("CloudCore ended; see {}", layout.log(program.name).display());
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let timed_out = || {
        format!("CloudCore is not ready after {START_TIMEOUT:?}; see {}", layout.log(program.name).display())
    };
    tokio::time::timeout(START_TIMEOUT, ready).await.with_context(timed_out)?
}
