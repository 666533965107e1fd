//! `keadm ca`: replaces the CA without any node joining again.

use anyhow::Context;
use api::refused::SIGNED_BY;
use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client};
use pki::{Authority, Bundle};

use super::secrets::{self, Access};
use crate::render;

#[derive(Args)]
pub(crate) struct Flags {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand)]
enum Step {
    /// Make a new CA. It is trusted at once and signs after the overlap; the old one stays trusted.
    Rotate(Rotate),
    /// Trust only the CA that signs. Nodes whose certificate is of an older one must join again; they are named first.
    Retire(Retire),
    /// Print the CAs that are trusted.
    Show(Show),
}

#[derive(Args)]
struct Rotate {
    #[command(flatten)]
    access: Access,
    /// Time for nodes to learn of the new CA before it signs; nodes ask once a day.
    #[arg(long, default_value = "48h", value_parser = super::duration)]
    overlap: i64,
}

#[derive(Args)]
struct Retire {
    #[command(flatten)]
    access: Access,
    /// Do not ask, whoever has not renewed.
    #[arg(long)]
    force: bool,
}

#[derive(Args)]
struct Show {
    #[command(flatten)]
    access: Access,
}

/// Label of edge nodes, as KubeEdge's register themselves.
const EDGE: &str = "node-role.kubernetes.io/edge";
/// Nodes named in a question.
const NAMED: usize = 20;

pub(crate) async fn run(flags: Flags) -> anyhow::Result<()> {
    match flags.step {
        Step::Rotate(flags) => rotate(flags).await,
        Step::Retire(flags) => retire(&flags).await,
        Step::Show(flags) => show(&flags).await,
    }
}

async fn rotate(flags: Rotate) -> anyhow::Result<()> {
    let secrets = secrets::open(&flags.access.kubeconfig()?).await?;
    let (mut secret, seen) = secrets::ca(&secrets).await?;
    let now = daemon::clock::unix_seconds();
    let next = Authority::generate(None, now)?;
    secret.begin(&next, now, flags.overlap)?;
    secrets::write_ca(&secrets, &secret, seen).await?;
    render::done(&format!("CA {} is trusted and signs in {} s", next.fingerprint(), flags.overlap));
    render::next(&format!(
        "keadm ca retire{}    # when every node has renewed its certificate",
        flags.access.flags()
    ));
    Ok(())
}

async fn retire(flags: &Retire) -> anyhow::Result<()> {
    let client = secrets::client(&flags.access.kubeconfig()?).await?;
    let secrets = Api::namespaced(client.clone(), "kubeedge");
    let (mut secret, seen) = secrets::ca(&secrets).await?;
    secret.retire()?;
    let late = not_renewed(client, &secret.authority()?.fingerprint()).await?;
    if !late.is_empty() && !flags.force {
        super::confirm(&question(&late))?;
    }
    secrets::write_ca(&secrets, &secret, seen).await?;
    render::done(&format!("only CA {} is trusted", secret.authority()?.fingerprint()));
    Ok(())
}

/// Nodes whose certificate is not known to be of the CA with `fingerprint`.
async fn not_renewed(client: Client, fingerprint: &str) -> anyhow::Result<Vec<String>> {
    let nodes: Api<Node> = Api::all(client);
    let nodes = nodes.list(&ListParams::default()).await.context("listing nodes")?;
    let edges = nodes.items.into_iter().map(|node| node.metadata).filter(|metadata| {
        // Nodes that are none of CloudCore's have other certificates.
        let labels = metadata.labels.iter().flatten();
        let signed_by = metadata.annotations.iter().flatten().find(|(name, _)| *name == SIGNED_BY);
        let is_edge = signed_by.is_some() || labels.into_iter().any(|(name, _)| name == EDGE);
        is_edge && signed_by.is_none_or(|(_, signed_by)| signed_by != fingerprint)
    });
    Ok(edges.filter_map(|metadata| metadata.name).collect())
}

fn question(late: &[String]) -> String {
    let shown = late.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = late.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "{} nodes are not known to have renewed their certificate and would have to join again with a token: {shown}{more}",
        late.len()
    )
}

async fn show(flags: &Show) -> anyhow::Result<()> {
    let secrets = secrets::open(&flags.access.kubeconfig()?).await?;
    let (secret, _) = secrets::ca(&secrets).await?;
    let signs = secret.authority()?.fingerprint();
    for fingerprint in fingerprints(&secret.bundle()?) {
        let role = if fingerprint == signs { "signs" } else { "trusted" };
        render::result(&format!("{fingerprint} {role}"));
    }
    Ok(())
}

fn fingerprints(bundle: &Bundle) -> Vec<String> {
    bundle.certificates().iter().map(|certificate| pki::fingerprint(certificate)).collect()
}
