//! The cluster and the secrets of namespace `kubeedge`, for the commands that need them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use api::config::cloudcore::CloudCoreConfig;
use clap::Args;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use pki::CaSecret;

use crate::layout::Layout;
use crate::render;

/// Where the cluster is.
#[derive(Args)]
pub(super) struct Access {
    /// Kubeconfig of the cluster; default: the one that keadm init was given or wrote, else /root/.kube/config.
    #[arg(long)]
    kube_config: Option<PathBuf>,
    /// The folder given to `keadm init`.
    #[arg(long)]
    root: Option<PathBuf>,
}

impl Access {
    /// What was given, else what the installation's cloudcore.yaml says, else what KubeEdge takes.
    pub(super) fn kubeconfig(&self) -> anyhow::Result<PathBuf> {
        if let Some(given) = &self.kube_config {
            return Ok(given.clone());
        }
        let layout = Layout::new(self.root.as_deref())?;
        let config = layout.cloudcore_config();
        if config.exists() {
            let (config, _): (CloudCoreConfig, _) = daemon::config::load(&config)?;
            let named = match config.modules.standalone.enable {
                true => config.modules.standalone.admin_kubeconfig,
                false => config.kube_api_config.kube_config,
            };
            if !named.is_empty() {
                return Ok(PathBuf::from(named));
            }
        }
        let own = layout.admin_kubeconfig();
        Ok(if own.exists() { own } else { PathBuf::from("/root/.kube/config") })
    }

    /// The same flags for the next command.
    pub(super) fn flags(&self) -> String {
        let flag = |name: &str, path: &Option<PathBuf>| {
            path.as_ref().map_or_else(String::new, |path| {
                format!(" --{name} {}", render::word(&path.to_string_lossy()))
            })
        };
        flag("kube-config", &self.kube_config) + &flag("root", &self.root)
    }
}

/// A client of the cluster.
pub(super) async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("reading kubeconfig {}; give --kube-config", kubeconfig.display()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

pub(super) async fn open(kubeconfig: &Path) -> anyhow::Result<Api<Secret>> {
    Ok(Api::namespaced(client(kubeconfig).await?, "kubeedge"))
}

/// The CA's secret, and the object it was read from.
pub(super) async fn ca(secrets: &Api<Secret>) -> anyhow::Result<(CaSecret, Secret)> {
    let read = secrets.get("casecret").await;
    let object = read.context("reading secret kubeedge/casecret; has CloudCore run?")?;
    let data = object.data.clone().unwrap_or_default();
    Ok((CaSecret::new(data.into_iter().map(|(key, value)| (key, value.0)).collect()), object))
}

/// Writes the CA's secret over `seen`; an error if it has changed since.
pub(super) async fn write_ca(secrets: &Api<Secret>, secret: &CaSecret, seen: Secret) -> anyhow::Result<()> {
    let data: BTreeMap<String, ByteString> =
        secret.data().iter().map(|(key, value)| (key.clone(), ByteString(value.clone()))).collect();
    let object = Secret { data: Some(data), ..seen };
    let written = secrets.replace("casecret", &PostParams::default(), &object).await;
    written.context("writing secret kubeedge/casecret; if it changed meanwhile, run the command again")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubeconfig_is_the_one_init_was_given() {
        let root = tempfile::tempdir().unwrap();
        let access = Access { kube_config: None, root: Some(root.path().to_owned()) };
        assert_eq!(access.kubeconfig().unwrap(), Path::new("/root/.kube/config"));
        let layout = Layout::new(Some(root.path())).unwrap();
        std::fs::create_dir_all(layout.cloudcore_config().parent().unwrap()).unwrap();
        std::fs::write(layout.cloudcore_config(), "kubeAPIConfig: {kubeConfig: /srv/kc}\n").unwrap();
        assert_eq!(access.kubeconfig().unwrap(), Path::new("/srv/kc"));
        let given = Access { kube_config: Some("/other kc".into()), root: None };
        assert_eq!(given.kubeconfig().unwrap(), Path::new("/other kc"));
        assert_eq!(given.flags(), " --kube-config '/other kc'");
    }
}
