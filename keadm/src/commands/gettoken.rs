//! `keadm gettoken`: prints what secret `kubeedge/tokensecret` holds, or makes a token that is good for less.

use std::path::Path;

use anyhow::{Context, bail};
use clap::Args;
use pki::token::{self, Claims};

use super::secrets::{self, Access};
use crate::render;

#[derive(Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    access: Access,
    /// Make a token that one node can join with, once.
    #[arg(long)]
    single_use: bool,
    /// Make a token for nodes of this name only; * stands for any text.
    #[arg(long, value_name = "PATTERN")]
    nodes: Option<String>,
    /// Make a token that is good for names of nodes that exist, too: for a machine that takes the place of another, or
    /// whose disk is new. Other tokens are for new nodes.
    #[arg(long)]
    existing_nodes: bool,
    /// Make a token that lasts this long (30m, 2h, 7d); default with the flags above: 24h.
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    ttl: Option<i64>,
}

/// Seconds a made token lasts.
const TTL: i64 = 24 * 3600;

pub(crate) async fn run(flags: Flags) -> anyhow::Result<()> {
    let kubeconfig = flags.access.kubeconfig()?;
    let is_made = flags.single_use || flags.existing_nodes || flags.nodes.is_some() || flags.ttl.is_some();
    let token = if is_made { make(&flags, &kubeconfig).await? } else { read(&kubeconfig).await? };
    render::result(&token);
    Ok(())
}

async fn make(flags: &Flags, kubeconfig: &Path) -> anyhow::Result<String> {
    if let Some(pattern) = &flags.nodes
        && !pattern.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'*')
        })
    {
        bail!(
            "--nodes {pattern:?}: node names have lower-case letters, digits, - and .; * stands for any text"
        );
    }
    let (secret, _) = secrets::ca(&secrets::open(kubeconfig).await?).await?;
    let claims = Claims {
        exp: daemon::clock::unix_seconds() + flags.ttl.unwrap_or(TTL),
        jti: flags.single_use.then(token::fresh_id),
        nodes: flags.nodes.clone(),
        existing: flags.existing_nodes,
    };
    Ok(token::mint_with(&secret.authority()?, &claims))
}

/// The current join token.
pub(crate) async fn read(kubeconfig: &Path) -> anyhow::Result<String> {
    let secrets = secrets::open(kubeconfig).await?;
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
