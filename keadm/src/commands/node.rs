//! `keadm node`: puts nodes out and lets them in again. The list is config map `kubeedge/refused-nodes`; every CloudCore
//! follows it.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use api::refused::{NAME, NAMESPACE, Refused, RefusedNode, serial_key};
use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use message::NodeName;
use serde_json::{Value, json};

use super::secrets::{self, Access};
use crate::render;

#[derive(Args)]
pub(crate) struct Flags {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand)]
enum Step {
    /// Delete a node and refuse the certificates it has. A machine may join under its name with a token.
    Remove(Remove),
    /// Refuse whoever comes by a node's name, with a token too, or one certificate. The node object stays.
    Block(Block),
    /// Let a node or a certificate in again.
    Allow(Allow),
    /// Print who is refused.
    List(List),
}

#[derive(Args)]
struct Remove {
    #[command(flatten)]
    access: Access,
    /// Name of the node.
    node: String,
}

#[derive(Args)]
struct Block {
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    whom: Whom,
    /// What is told to who is refused.
    #[arg(long, default_value = "blocked by the operator")]
    reason: String,
}

#[derive(Args)]
struct Allow {
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    whom: Whom,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// Name of a node.
    node: Option<String>,
    /// Serial number of one certificate, in hexadecimal digits; CloudCore's log names it as the node connects.
    #[arg(long)]
    serial: Option<String>,
}

#[derive(Args)]
struct List {
    #[command(flatten)]
    access: Access,
}

/// Times a write is tried that others get in the way of.
const ATTEMPTS: u32 = 5;

impl Whom {
    /// The list's key.
    fn key(&self) -> anyhow::Result<String> {
        match (&self.node, &self.serial) {
            (Some(node), _) => Ok(NodeName::new(node)?.to_string()),
            (None, Some(serial)) => serial_key(serial).with_context(|| {
                format!("--serial {serial:?}: a serial number is 1 to 40 hexadecimal digits")
            }),
            (None, None) => bail!("give the name of a node or --serial"),
        }
    }
}

pub(crate) async fn run(flags: Flags) -> anyhow::Result<()> {
    match flags.step {
        Step::Remove(flags) => remove(&flags).await,
        Step::Block(flags) => {
            let key = flags.whom.key()?;
            let entry = RefusedNode { reason: flags.reason, since: now(), ..RefusedNode::default() };
            write(&secrets::client(&flags.access.kubeconfig()?).await?, &key, Some(&entry)).await?;
            let what = flags.whom.node.map_or("the certificate".to_owned(), |node| format!("node {node}"));
            render::done(&format!("{what} is refused by every CloudCore, and its session ends"));
            Ok(())
        }
        Step::Allow(flags) => {
            write(&secrets::client(&flags.access.kubeconfig()?).await?, &flags.whom.key()?, None).await?;
            render::done("allowed; a machine that was refused comes back by itself");
            Ok(())
        }
        Step::List(flags) => list(&flags).await,
    }
}

fn now() -> String {
    daemon::clock::rfc3339(daemon::clock::now())
}

async fn remove(flags: &Remove) -> anyhow::Result<()> {
    let node = NodeName::new(&flags.node)?;
    let client = secrets::client(&flags.access.kubeconfig()?).await?;
    let nodes: Api<Node> = Api::all(client.clone());
    let object = nodes.get_opt(node.as_str()).await.context("reading the node object")?;
    let entry = RefusedNode {
        begins_until: Some(daemon::clock::unix_seconds()),
        reason: "removed by the operator".to_owned(),
        since: now(),
        uid: object.and_then(|object| object.metadata.uid),
    };
    // Refused first: a node that is connected would make its object again.
    write(&client, node.as_str(), Some(&entry)).await?;
    match nodes.delete(node.as_str(), &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error).context("the node is refused, but its object was not deleted"),
    }
    render::done(&format!("node {node} is removed, and the certificates it has are refused"));
    render::next(&format!(
        "keadm node block {node}{0}    # if no machine may join by this name, or\n  keadm node allow {node}{0}    # if it was a mistake",
        flags.access.flags()
    ));
    Ok(())
}

async fn list(flags: &List) -> anyhow::Result<()> {
    let maps = maps(&secrets::client(&flags.access.kubeconfig()?).await?);
    let map = maps.get_opt(NAME).await.context("reading the list of refused nodes")?;
    let refused = Refused::read(&map.and_then(|map| map.data).unwrap_or_default());
    for (key, entry) in refused.entries() {
        let whom = key.strip_prefix("serial_").map_or(key.clone(), |serial| format!("serial {serial}"));
        let what = match entry.begins_until {
            Some(_) => "certificates it had",
            None => "all",
        };
        render::result(&format!("{whom}\t{what}\t{}\t{}", entry.since, entry.reason));
    }
    Ok(())
}

fn maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), NAMESPACE)
}

/// Writes one entry of the list, or takes it away. A node that is refused altogether is not made less so by a removal.
async fn write(client: &Client, key: &str, entry: Option<&RefusedNode>) -> anyhow::Result<()> {
    let maps = maps(client);
    for _ in 0..ATTEMPTS {
        let stored = maps.get_opt(NAME).await.context("reading the list of refused nodes")?;
        let refused = Refused::read(&stored.as_ref().and_then(|map| map.data.clone()).unwrap_or_default());
        let known = refused.entries().get(key);
        match (known, entry) {
            (None, None) => {
                let names: Vec<&str> = refused.entries().keys().map(String::as_str).collect();
                ensure!(names.is_empty(), "{key} is not refused; refused are {}", names.join(", "));
                bail!("{key} is not refused, and nobody else is");
            }
            (Some(known), Some(entry)) if known.begins_until.is_none() && entry.begins_until.is_some() => {
                return Ok(());
            }
            _ => {}
        }
        let written = match &stored {
            None => create(&maps, key, entry).await,
            Some(map) => patch(&maps, &map.metadata, key, entry).await,
        };
        match written {
            Ok(()) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error).context("writing config map kubeedge/refused-nodes"),
        }
    }
    bail!("config map {NAMESPACE}/{NAME} is written by others all the time; run the command again")
}

async fn create(maps: &Api<ConfigMap>, key: &str, entry: Option<&RefusedNode>) -> Result<(), kube::Error> {
    let data: BTreeMap<String, String> =
        entry.map(|entry| (key.to_owned(), entry.text())).into_iter().collect();
    let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
    let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
    maps.create(&PostParams::default(), &map).await.map(|_| ())
}

async fn patch(
    maps: &Api<ConfigMap>,
    seen: &ObjectMeta,
    key: &str,
    entry: Option<&RefusedNode>,
) -> Result<(), kube::Error> {
    let value = entry.map_or(Value::Null, |entry| entry.text().into());
    let patch = json!({"metadata": {"resourceVersion": seen.resource_version}, "data": {key: value}});
    maps.patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await.map(|_| ())
}
