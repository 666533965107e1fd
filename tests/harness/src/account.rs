//! CloudCore's account in an API server, with the rights that the chart gives it and no others.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::kubectl::Kubectl;

const NAME: &str = "cloudcore";

/// Applies what whoever installs CloudCore in a cluster applies before it starts, and writes a kubeconfig with a token of the
/// account into `folder`. `admin` is the kubeconfig of the cluster's administrator. `node_identity`: CloudCore has that switch on.
pub fn kubeconfig(admin: &Path, folder: &Path, node_identity: bool) -> Result<PathBuf> {
    let kubectl = Kubectl::new(admin);
    let definitions = api::crds::ALL.iter().map(|(_, text)| (*text).to_owned());
    let parts = manifests::Parts { streams: true, webhooks: true, node_identity };
    let objects = manifests::rights(parts).into_iter().map(|object| object.to_string());
    let all: Vec<String> = definitions.chain(objects).collect();
    kubectl.apply(&all.join("\n---\n"))?;
    let token = kubectl.run(&["create", "token", NAME, "-n", "kubeedge", "--duration", "24h"])?;
    let text = kubectl.run(&["config", "view", "--raw", "--flatten", "-o", "json"])?;
    let mut config: Value = serde_json::from_str(&text).context("reading the administrator's kubeconfig")?;
    config["users"] = json!([{"name": NAME, "user": {"token": token.trim()}}]);
    for context in config["contexts"].as_array_mut().into_iter().flatten() {
        context["context"]["user"] = json!(NAME);
    }
    std::fs::create_dir_all(folder)?;
    let path = folder.join("cloudcore.kubeconfig");
    std::fs::write(&path, config.to_string())?;
    Ok(path)
}
