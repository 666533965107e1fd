//! Hollow edges in a process of their own, so that their cost is not CloudCore's and no process runs out of files.
//!
//! Told on standard input, a line each: `status`, `text T`, `flap PERCENT`. Answers a line of JSON each.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use edgecore::edgehub::Servers;
use edgecore::metamanager::{Change, LinkState, ObjectChange};
use message::ObjectKind;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

use crate::hollow::{self, Hollow};

#[derive(Args, Clone)]
pub struct Flags {
    /// Folder with the CA (`ca.crt`, `ca.key`) that signs the edges.
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    server: String,
    #[arg(long)]
    quic: bool,
    #[arg(long, default_value = "auto")]
    dialect: String,
    #[arg(long)]
    first: usize,
    #[arg(long)]
    count: usize,
    /// Seconds between signs of life.
    #[arg(long, default_value_t = 15)]
    heartbeat: u64,
}

/// Newest text of each config map.
type Texts = Arc<Mutex<HashMap<String, String>>>;

pub fn node_name(number: usize) -> String {
    format!("hollow-{number}")
}

/// Where an edge dials.
pub fn servers(server: &str, quic: bool, dialect: &str) -> Servers {
    let offer = if dialect == "kubeedge" { link::Offer::KubeEdge } else { link::Offer::Auto };
    Servers { websocket: (!quic).then(|| server.to_owned()), quic: quic.then(|| server.to_owned()), offer }
}

pub async fn run(flags: Flags) -> Result<()> {
    let ca = pki::files::read_identity(&flags.folder.join("ca.crt"), &flags.folder.join("ca.key"))?;
    let authority = pki::Authority::from_der(ca.certificate(), ca.private_key().secret_der())?;
    let texts = Texts::default();
    let (committed, changes) = mpsc::channel(10_000);
    tokio::spawn(remember(changes, texts.clone()));
    let mut edges = Vec::with_capacity(flags.count);
    for number in flags.first..flags.first + flags.count {
        let folder = flags.folder.join(node_name(number));
        hollow::write_identity(&authority, &folder, &node_name(number))?;
        edges.push(start(&flags, number, &committed)?);
    }
    println!("{}", json!({"started": edges.len()}));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let (command, argument) = line.split_once(' ').unwrap_or((&line, ""));
        match command {
            "status" => {}
            "flap" => {
                let share: usize = argument.parse().context("flap PERCENT")?;
                for at in 0..edges.len() * share / 100 {
                    edges[at].stop.cancel();
                    edges[at] = start(&flags, flags.first + at, &committed)?;
                }
            }
            "text" => {
                let texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
                let count = texts.values().filter(|text| *text == argument).count();
                println!("{}", json!({"count": count}));
                continue;
            }
            other => anyhow::bail!("unknown command {other:?}"),
        }
        let connected = edges.iter().filter(|edge| *edge.link.borrow() == LinkState::Connected).count();
        println!("{}", json!({"connected": connected}));
    }
    Ok(())
}

fn start(flags: &Flags, number: usize, committed: &mpsc::Sender<ObjectChange>) -> Result<Hollow> {
    hollow::start(
        &node_name(number),
        &flags.folder.join(node_name(number)),
        servers(&flags.server, flags.quic, &flags.dialect),
        Duration::from_secs(flags.heartbeat),
        committed.clone(),
    )
}

async fn remember(mut changes: mpsc::Receiver<ObjectChange>, texts: Texts) {
    while let Some(change) = changes.recv().await {
        if let (ObjectKind::ConfigMap, Change::Put { object, .. }) = (&change.key.kind, &change.change) {
            let read: serde_json::Value = object.parse().unwrap_or_default();
            let text = read["data"]["text"].as_str().unwrap_or_default().to_owned();
            texts.lock().unwrap_or_else(PoisonError::into_inner).insert(change.key.name, text);
        }
    }
}
