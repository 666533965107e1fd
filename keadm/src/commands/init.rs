//! `keadm init`: installs CloudCore into a cluster, or sets it up on this machine.

mod extra;
mod install;
mod process;
mod rollout;
mod steps;

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use crate::address;

#[derive(Args)]
pub(crate) struct Flags {
    /// Serve Kubernetes from an embedded API server, with CloudCore in the same process: one machine, nothing else needed.
    #[arg(long, conflicts_with = "process")]
    standalone: bool,
    /// Run CloudCore as a process of this machine, next to the cluster of --kube-config, instead of as pods in it.
    #[arg(long)]
    process: bool,
    /// Addresses edges reach CloudCore by, separated by commas: of nodes of the cluster or of the balancer; of this machine
    /// with --standalone and --process.
    #[arg(long, value_delimiter = ',', value_parser = address::host)]
    advertise_address: Vec<String>,
    /// Kubeconfig of the cluster, without --standalone.
    #[arg(long, default_value = "/root/.kube/config")]
    kube_config: PathBuf,
    /// Change values of the chart: cloudCore.key.path=value[,...], repeatable; keys of cloudcore.yaml are modules.key.path, with
    /// --standalone and --process those only.
    #[arg(long)]
    set: Vec<String>,
    /// Take over objects of CloudCore that somebody else made; with --standalone and --process: overwrite an existing
    /// configuration.
    #[arg(long)]
    force: bool,
    /// Tag of the image; default: this version. With --standalone and --process the binary beside keadm is used.
    #[arg(long, num_args = 0..=1, value_name = "TAG")]
    kubeedge_version: Option<Option<String>>,
    /// The same, as version=TAG.
    #[arg(long, value_name = "version=TAG", value_parser = profile)]
    profile: Option<String>,
    /// Registry and folder of the image, which is called cloudcore there.
    #[arg(long, value_name = "REGISTRY/FOLDER")]
    image_repository: Option<String>,
    /// Files and folders with objects that are applied after CloudCore's, separated by commas; keadm reset leaves them.
    #[arg(long, short = 'f', alias = "files", value_name = "FILE,FOLDER", value_delimiter = ',')]
    manifests: Vec<PathBuf>,
    /// Say what would be done to the cluster, and do nothing.
    #[arg(long, short = 'd')]
    dry_run: bool,
    /// Print all values of the installation.
    #[arg(long)]
    print_final_values: bool,
    /// Whether to wait until the pods of CloudCore are available.
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set
    )]
    wait: bool,
    /// How long to wait for them (90s, 5m, 1h).
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = super::duration)]
    timeout: i64,
    /// Put everything under this folder instead of /etc, /var; for --standalone and --process.
    #[arg(long)]
    root: Option<PathBuf>,
    /// Write the files and start nothing; for --standalone and --process.
    #[arg(long)]
    no_start: bool,
}

fn profile(text: &str) -> Result<String, String> {
    match text.strip_prefix("version=") {
        Some(tag) if !tag.is_empty() => Ok(tag.to_owned()),
        _ => {
            Err("there is one profile, whose image may be chosen: version=TAG; --set changes the rest"
                .to_owned())
        }
    }
}

pub(crate) async fn run(flags: &Flags) -> anyhow::Result<()> {
    if flags.standalone || flags.process {
        let of_clusters = [
            ("--dry-run", flags.dry_run),
            ("--print-final-values", flags.print_final_values),
            ("--image-repository", flags.image_repository.is_some()),
            ("--manifests", !flags.manifests.is_empty()),
        ];
        if let Some((flag, _)) = of_clusters.iter().find(|(_, is_given)| *is_given) {
            bail!("{flag} is about CloudCore in a cluster: leave it out, or --standalone and --process");
        }
        return process::run(flags).await;
    }
    for (flag, is_given) in [("--no-start", flags.no_start), ("--root", flags.root.is_some())] {
        if is_given {
            bail!(
                "{flag} is about CloudCore on this machine: give --process (next to the cluster of --kube-config) or --standalone as well"
            );
        }
    }
    install::run(flags).await
}
