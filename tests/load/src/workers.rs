//! Hollow edges in a process of their own, so that their cost is not CloudCore's and no process runs out of files.
//!
//! Told on standard input, a line each; answers a line of JSON each.
//!
//! | line | what |
//! |---|---|
//! | `status` | how many edges are connected |
//! | `text T` | how many config maps begin with the word T, and how many of those are of edges without a throttle |
//! | `flap PERCENT` | so many edges start anew |
//! | `throttle PERCENT` | so many edges start anew, behind throttles that are open |
//! | `pace slow`, `pace open` | half of the throttles let a record through now and then, half nothing; all are open again |

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use edgehub::Servers;
use message::ObjectKind;
use metamanager::{Change, LinkState, ObjectChange};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

use crate::hollow::{self, Hollow};
use crate::throttle::{Pace, Throttle};

#[derive(Args, Clone)]
pub(crate) struct Flags {
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

/// Newest text of each config map, up to the first space.
type Texts = Arc<Mutex<HashMap<String, String>>>;

/// Between two records of a slow edge.
const SLOW: Duration = Duration::from_millis(100);

/// Name of an edge's config map.
pub(crate) fn config_map(number: usize) -> String {
    format!("load-{number}")
}

pub(crate) fn node_name(number: usize) -> String {
    format!("hollow-{number}")
}

/// Where an edge dials.
pub(crate) fn servers(server: &str, quic: bool, dialect: &str) -> Servers {
    let offer = if dialect == "kubeedge" { link::Offer::KubeEdge } else { link::Offer::Auto };
    let websocket = (!quic).then(|| server.to_owned()).into_iter().collect();
    Servers { websocket, quic: quic.then(|| server.to_owned()), offer, ..Servers::default() }
}

pub(crate) async fn run(flags: Flags) -> Result<()> {
    let ca = pki::files::read_identity(&flags.folder.join("ca.crt"), &flags.folder.join("ca.key"))?;
    let authority = pki::Authority::from_der(ca.certificate(), ca.private_key().secret_der())?;
    let texts = Texts::default();
    let (committed, changes) = mpsc::channel(10_000);
    tokio::spawn(remember(changes, texts.clone()));
    let mut fleet = Fleet::start(flags, &authority, committed)?;
    println!("{}", json!({"started": fleet.edges.len()}));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let (command, argument) = line.split_once(' ').unwrap_or((&line, ""));
        match command {
            "status" => {}
            "flap" => fleet.flap(argument.parse().context("flap PERCENT")?)?,
            "throttle" => fleet.throttle(argument.parse().context("throttle PERCENT")?).await?,
            "pace" => fleet.pace(argument == "slow"),
            "text" => {
                let texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
                let reached = texts.iter().filter(|(_, text)| *text == argument);
                let (count, free) = reached.fold((0, 0), |(count, free), (name, _)| {
                    (count + 1, free + usize::from(!fleet.throttled.contains(name)))
                });
                println!("{}", json!({"count": count, "free": free}));
                continue;
            }
            other => anyhow::bail!("unknown command {other:?}"),
        }
        println!("{}", json!({"connected": fleet.connected(), "throttled": fleet.throttled.len()}));
    }
    Ok(())
}

/// The edges of this process.
struct Fleet {
    flags: Flags,
    edges: Vec<Hollow>,
    committed: mpsc::Sender<ObjectChange>,
    throttles: Vec<Throttle>,
    /// Config maps of the edges behind a throttle.
    throttled: HashSet<String>,
}

impl Fleet {
    fn start(
        flags: Flags,
        authority: &pki::Authority,
        committed: mpsc::Sender<ObjectChange>,
    ) -> Result<Fleet> {
        let (first, count) = (flags.first, flags.count);
        let mut fleet =
            Fleet { flags, edges: Vec::new(), committed, throttles: Vec::new(), throttled: HashSet::new() };
        for number in first..first + count {
            let folder = fleet.flags.folder.join(node_name(number));
            hollow::write_identity(authority, &folder, &node_name(number))?;
            fleet.edges.push(fleet.edge(number, &fleet.flags.server)?);
        }
        Ok(fleet)
    }

    fn edge(&self, number: usize, server: &str) -> Result<Hollow> {
        hollow::start(
            &node_name(number),
            &self.flags.folder.join(node_name(number)),
            servers(server, self.flags.quic, &self.flags.dialect),
            Duration::from_secs(self.flags.heartbeat),
            self.committed.clone(),
        )
    }

    fn flap(&mut self, share: usize) -> Result<()> {
        for at in 0..self.edges.len() * share / 100 {
            self.edges[at].stop.cancel();
            self.edges[at] = self.edge(self.flags.first + at, &self.flags.server)?;
        }
        Ok(())
    }

    async fn throttle(&mut self, share: usize) -> Result<()> {
        for at in 0..self.edges.len() * share / 100 {
            let number = self.flags.first + at;
            let throttle = Throttle::start(&self.flags.server).await?;
            self.edges[at].stop.cancel();
            self.edges[at] = self.edge(number, throttle.address())?;
            self.throttles.push(throttle);
            self.throttled.insert(config_map(number));
        }
        Ok(())
    }

    fn pace(&self, slow: bool) {
        for (at, throttle) in self.throttles.iter().enumerate() {
            throttle.set(match slow {
                false => Pace::Open,
                true if at % 2 == 0 => Pace::Every(SLOW),
                true => Pace::Shut,
            });
        }
    }

    fn connected(&self) -> usize {
        self.edges.iter().filter(|edge| *edge.link.borrow() == LinkState::Connected).count()
    }
}

async fn remember(mut changes: mpsc::Receiver<ObjectChange>, texts: Texts) {
    while let Some(change) = changes.recv().await {
        if let (ObjectKind::ConfigMap, Change::Put { object, .. }) = (&change.key.kind, &change.change) {
            let read: serde_json::Value = object.parse().unwrap_or_default();
            let text = read["data"]["text"].as_str().unwrap_or_default();
            let word = text.split(' ').next().unwrap_or_default().to_owned();
            texts.lock().unwrap_or_else(PoisonError::into_inner).insert(change.key.name, word);
        }
    }
}
