//! `keadm reset`: stops what init or join started and removes its files; or removes CloudCore from a cluster.

mod cluster;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use crate::layout::Layout;
use crate::program::Program;
use crate::{pods, render, script};

#[derive(Args)]
pub(crate) struct Flags {
    /// What to reset; default: whatever is installed.
    #[arg(value_enum)]
    side: Option<Side>,
    /// Do not ask.
    #[arg(long)]
    force: bool,
    /// Remove what keadm init made in the cluster of this kubeconfig. Without it, reset cloud takes /root/.kube/config
    /// if CloudCore is not set up on this machine.
    #[arg(long)]
    kube_config: Option<PathBuf>,
    /// Leave the CA of the edges in the cluster, so that they need not join again, and the list of refused nodes.
    #[arg(long)]
    keep_ca: bool,
    /// Endpoint of the container runtime; default: that of edgecore.yaml.
    #[arg(long)]
    remote_runtime_endpoint: Option<String>,
    /// Script or program to run before an edge is reset.
    #[arg(long)]
    pre_run: Option<PathBuf>,
    /// Script or program to run after an edge was reset.
    #[arg(long)]
    post_run: Option<PathBuf>,
    /// The folder given to `keadm init` or `keadm join`.
    #[arg(long)]
    root: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    Cloud,
    Edge,
}

/// Folders of each side, as KubeEdge's reset removes them. Those both sides use go when the last side goes.
const SHARED: &[&str] = &["/etc/kubeedge", "/var/lib/kubeedge", "/var/log/kubeedge"];
const CLOUD: &[&str] = &["/var/lib/causeway"];
const EDGE: &[&str] = &["/var/lib/kubelet"];

/// Of KubeEdge's users.
const KUBECONFIG: &str = "/root/.kube/config";

pub(crate) async fn run(flags: Flags) -> anyhow::Result<()> {
    let layout = Layout::new(flags.root.as_deref())?;
    if let Some(kubeconfig) = of_cluster(&flags, &layout)? {
        let wanted = cluster::Wanted { kubeconfig: &kubeconfig, force: flags.force, keep_ca: flags.keep_ca };
        return cluster::run(&wanted).await;
    }
    if flags.keep_ca {
        bail!("--keep-ca is about CloudCore in a cluster: give --kube-config as well, or leave it out");
    }
    let cloud = layout.cloudcore_config().exists() && flags.side != Some(Side::Edge);
    let edge = layout.edgecore_config().exists() && flags.side != Some(Side::Cloud);
    if !cloud && !edge {
        render::done("nothing to reset");
        return Ok(());
    }
    if !flags.force {
        confirm(cloud, edge)?;
    }
    if let Some(file) = flags.pre_run.as_ref().filter(|_| edge) {
        script::run(file)?;
    }
    if edge {
        Program { name: "edgecore", layout: &layout }.stop().await?;
        pods::remove(&layout.edgecore_config(), flags.remote_runtime_endpoint.as_deref()).await?;
        remove(&layout, EDGE)?;
        remove_file(&layout.edgecore_config())?;
    }
    if cloud {
        Program { name: "cloudcore", layout: &layout }.stop().await?;
        remove(&layout, CLOUD)?;
        remove_file(&layout.cloudcore_config())?;
    }
    if !layout.cloudcore_config().exists() && !layout.edgecore_config().exists() {
        remove(&layout, SHARED)?;
    }
    if let Some(file) = flags.post_run.as_ref().filter(|_| edge) {
        script::run(file)?;
    }
    render::done("reset");
    if edge {
        render::next(
            "keadm node remove NAME    # in the cloud, if the node does not come back; joining again by its name needs a token of\n                            # keadm gettoken --existing-nodes",
        );
    }
    Ok(())
}

/// The kubeconfig, if it is a cluster that is meant.
fn of_cluster(flags: &Flags, layout: &Layout) -> anyhow::Result<Option<PathBuf>> {
    let default = PathBuf::from(KUBECONFIG);
    match (&flags.kube_config, flags.side) {
        (Some(_), Some(Side::Edge)) => bail!("--kube-config is about the cloud: keadm reset edge needs none"),
        (Some(kubeconfig), _) => Ok(Some(kubeconfig.clone())),
        (None, Some(Side::Cloud)) if layout.is_system() && !layout.cloudcore_config().exists() => {
            Ok(default.exists().then_some(default))
        }
        _ => Ok(None),
    }
}

fn confirm(cloud: bool, edge: bool) -> anyhow::Result<()> {
    let what = match (cloud, edge) {
        (true, true) => "CloudCore, EdgeCore, their pods and all their files",
        (true, false) => "CloudCore and all its files",
        _ => "EdgeCore, its pods and all its files",
    };
    super::confirm(&format!("this removes {what}"))
}

fn remove(layout: &Layout, folders: &[&str]) -> anyhow::Result<()> {
    for folder in folders {
        let path = layout.path(folder);
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
            render::done(&format!("removed {}", path.display()));
        }
    }
    Ok(())
}

fn remove_file(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
