//! The secrets of namespace `kubeedge`, for the commands that need them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use pki::CaSecret;

use crate::layout::Layout;

/// Where the cluster is.
#[derive(Args)]
pub struct Access {
    /// Kubeconfig of the cluster; default: the one `keadm init --standalone` wrote, else /root/.kube/config.
    #[arg(long)]
    kube_config: Option<PathBuf>,
    /// The folder given to `keadm init`.
    #[arg(long)]
    root: Option<PathBuf>,
}

impl Access {
    pub fn kubeconfig(&self) -> anyhow::Result<PathBuf> {
        let layout = Layout::new(self.root.as_deref())?;
        Ok(self.kube_config.clone().unwrap_or_else(|| {
            let own = layout.admin_kubeconfig();
            if own.exists() { own } else { PathBuf::from("/root/.kube/config") }
        }))
    }
}

pub async fn open(kubeconfig: &Path) -> anyhow::Result<Api<Secret>> {
    let file = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("reading kubeconfig {}; give --kube-config", kubeconfig.display()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Api::namespaced(Client::try_from(config)?, "kubeedge"))
}

/// The CA's secret, and the object it was read from.
pub async fn ca(secrets: &Api<Secret>) -> anyhow::Result<(CaSecret, Secret)> {
    let read = secrets.get("casecret").await;
    let object = read.context("reading secret kubeedge/casecret; has CloudCore run?")?;
    let data = object.data.clone().unwrap_or_default();
    Ok((CaSecret::new(data.into_iter().map(|(key, value)| (key, value.0)).collect()), object))
}

/// Writes the CA's secret over `seen`; an error if it has changed since.
pub async fn write_ca(secrets: &Api<Secret>, secret: &CaSecret, seen: Secret) -> anyhow::Result<()> {
    let data: BTreeMap<String, ByteString> =
        secret.data().iter().map(|(key, value)| (key.clone(), ByteString(value.clone()))).collect();
    let object = Secret { data: Some(data), ..seen };
    let written = secrets.replace("casecret", &PostParams::default(), &object).await;
    written.context("writing secret kubeedge/casecret; if it changed meanwhile, run the command again")?;
    Ok(())
}
