//! `keadm gettoken`: prints what secret `kubeedge/tokensecret` holds.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::layout::Layout;
use crate::render;

#[derive(Args)]
pub struct Flags {
    /// Kubeconfig of the cluster; default: the one `keadm init --standalone` wrote, else /root/.kube/config.
    #[arg(long)]
    kube_config: Option<PathBuf>,
    /// The folder given to `keadm init`.
    #[arg(long)]
    root: Option<PathBuf>,
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let layout = Layout::new(flags.root.as_deref())?;
    let path = flags.kube_config.unwrap_or_else(|| {
        let own = layout.admin_kubeconfig();
        if own.exists() { own } else { PathBuf::from("/root/.kube/config") }
    });
    render::result(&read(&path).await?);
    Ok(())
}

/// The current join token.
pub async fn read(kubeconfig: &Path) -> anyhow::Result<String> {
    let file = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("reading kubeconfig {}; give --kube-config", kubeconfig.display()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    let secrets: Api<Secret> = Api::namespaced(Client::try_from(config)?, "kubeedge");
    let secret = secrets
        .get("tokensecret")
        .await
        .context("reading secret kubeedge/tokensecret; is CloudCore running?")?;
    let token = secret.data.unwrap_or_default().remove("tokendata").map(|data| data.0).unwrap_or_default();
    if token.is_empty() {
        bail!("secret kubeedge/tokensecret has no key tokendata; restart CloudCore to make it");
    }
    String::from_utf8(token).context("secret kubeedge/tokensecret is not text")
}
