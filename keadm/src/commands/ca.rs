//! `keadm ca`: replaces the CA without any node joining again.

use clap::{Args, Subcommand};
use pki::{Authority, Bundle};

use super::secrets::{self, Access};
use crate::render;

#[derive(Args)]
pub struct Flags {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand)]
enum Step {
    /// Make a new CA. It is trusted at once and signs after the overlap; the old one stays trusted.
    Rotate(Rotate),
    /// Trust only the CA that signs. Nodes whose certificate is of an older one must join again.
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
}

#[derive(Args)]
struct Show {
    #[command(flatten)]
    access: Access,
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
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
    let secrets = secrets::open(&flags.access.kubeconfig()?).await?;
    let (mut secret, seen) = secrets::ca(&secrets).await?;
    secret.retire()?;
    secrets::write_ca(&secrets, &secret, seen).await?;
    render::done(&format!("only CA {} is trusted", secret.authority()?.fingerprint()));
    Ok(())
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
