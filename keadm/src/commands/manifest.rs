//! `keadm manifest generate`: prints the objects of a CloudCore in a cluster, for `kubectl apply -f -`.

use anyhow::bail;
use clap::{Args, Subcommand};
use manifests::Installation;

use crate::{address, render, set};

#[derive(Args)]
pub(crate) struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the manifests; nothing is asked of a cluster and nothing is changed.
    Generate(Generate),
}

#[derive(Args)]
struct Generate {
    /// Addresses edges reach CloudCore by, separated by commas: of nodes of the cluster, or of the balancer.
    #[arg(long, value_delimiter = ',', value_parser = address::host)]
    advertise_address: Vec<String>,
    /// Tag of the image; default: this version.
    #[arg(long, value_name = "TAG")]
    kubeedge_version: Option<String>,
    /// Registry and folder of the image, which is called cloudcore there.
    #[arg(long, value_name = "REGISTRY/FOLDER")]
    image_repository: Option<String>,
    /// Change values of the chart: cloudCore.key.path=value[,...], repeatable; keys of cloudcore.yaml are modules.key.path
    /// or cloudCore.modules.key.path.
    #[arg(long)]
    set: Vec<String>,
    /// Leave the custom resource definitions out.
    #[arg(long)]
    skip_crds: bool,
}

pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    let Command::Generate(flags) = &flags.command;
    render::result(generate(flags)?.trim_end());
    Ok(())
}

fn generate(flags: &Generate) -> anyhow::Result<String> {
    let installation = installation(&Wanted {
        advertise_address: &flags.advertise_address,
        tag: flags.kubeedge_version.as_deref(),
        image_repository: flags.image_repository.as_deref(),
        set: &flags.set,
    })?;
    Ok(manifests::plain(&installation, !flags.skip_crds))
}

/// What flags say of an installation in a cluster.
pub(super) struct Wanted<'a> {
    pub advertise_address: &'a [String],
    pub tag: Option<&'a str>,
    pub image_repository: Option<&'a str>,
    pub set: &'a [String],
}

/// # Errors
/// A value has no place, or what is wanted cannot work.
pub(super) fn installation(wanted: &Wanted<'_>) -> anyhow::Result<Installation> {
    let mut installation = Installation::default();
    let core = &mut installation.cloud_core;
    core.modules.cloud_hub.advertise_address = wanted.advertise_address.to_vec();
    if let Some(tag) = wanted.tag {
        core.image.tag = tag.to_owned();
    }
    if let Some(folder) = wanted.image_repository {
        core.image.repository = format!("{}/{}", folder.trim_end_matches('/'), manifests::NAME);
    }
    let installation = set::apply_values(&installation, wanted.set)?;
    for name in &installation.cloud_core.modules.cloud_hub.advertise_address {
        address::host(name).map_err(|error| anyhow::anyhow!("--advertise-address: {error}"))?;
    }
    let problems = manifests::problems(&installation);
    if !problems.is_empty() {
        bail!("--advertise-address and --set give what cannot work:\n  {}", problems.join("\n  "));
    }
    Ok(installation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Generate,
    }

    fn printed(words: &[&str]) -> anyhow::Result<String> {
        generate(&Line::try_parse_from([&["keadm"], words].concat())?.flags)
    }

    #[test]
    fn the_flags_are_in_what_is_printed() {
        let text = printed(&[
            "--advertise-address",
            "10.0.0.5,cloud.example.com",
            "--image-repository",
            "registry.example.com/edge/",
            "--kubeedge-version",
            "v1.2.3",
            "--set",
            "cloudCore.replicaCount=3,cloudCore.service.type=LoadBalancer",
            "--set",
            "modules.cloudHub.nodeLimit=77,cloudCore.resources.limits.memory=2Gi",
        ])
        .unwrap();
        for part in [
            "image: \"registry.example.com/edge/cloudcore:v1.2.3\"",
            "replicas: 3",
            "type: LoadBalancer",
            "nodeLimit: 77",
            "memory: \"2Gi\"",
            "- \"10.0.0.5\"",
            "- cloud.example.com",
            "kind: CustomResourceDefinition",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("nodePort:") && !text.contains("{{"));
        let without = printed(&["--advertise-address", "fd00::1", "--skip-crds"]).unwrap();
        assert!(!without.contains("kind: CustomResourceDefinition") && without.contains("\"fd00::1\""));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        for (words, part) in [
            (&[][..], "advertiseAddress"),
            (&["--advertise-address", "10.0.0.256"], "10.0.0.256"),
            (&["--advertise-address", "a", "--set", "cloudCore.hostNetWork=true"], "hostNetWork"),
            (
                &["--advertise-address", "a", "--set", "cloudCore.modules.standalone.enable=true"],
                "standalone",
            ),
        ] {
            let error = printed(words).unwrap_err().to_string();
            assert!(error.contains(part), "{words:?}: {error}");
        }
    }
}
