//! The API server is away, silent, or CloudCore starts again: how long until the edges are in step and their nodes ready,
//! from the moment that it is back. Many pairs of one CloudCore and one edge have the same outage at once, so that one
//! outage gives many samples.

mod lifecycle;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cloudcore::kubernetes::Cluster;
use futures_util::future::try_join_all;
use harness::wait;
use serde_json::Value;

use crate::edge::Seen;
use crate::fake_node::FakeNode;
use crate::ground::{Api, Ground};
use crate::result::{Results, rounded};
use crate::way::{Relay, Way};
use crate::{Common, objects};
use lifecycle::ready_of;

/// Longest wait for a pair to be in step again.
const GIVE_UP: Duration = Duration::from_secs(420);
/// Between looks.
const LOOK: Duration = Duration::from_millis(20);

#[derive(clap::Args, Clone)]
pub(crate) struct Flags {
    #[command(flatten)]
    common: Common,
    /// Pairs of a CloudCore and an edge: samples of each outage.
    #[arg(long, default_value_t = 20)]
    pairs: usize,
    /// Seconds of an outage.
    #[arg(long, default_value_t = 60)]
    outage: u64,
}

/// One CloudCore, its way to the API server, and its edge with a runtime that runs nothing.
struct Pair {
    node: String,
    config_map: String,
    ground: Ground,
    relay: Relay,
    seen: Seen,
    _node: FakeNode,
}

/// What one outage gave: seconds until the change was committed, until the node was ready again.
#[derive(Default)]
struct Samples {
    commit: Vec<f64>,
    ready: Vec<f64>,
}

pub(crate) async fn run(flags: &Flags) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("causeway-recovery-").tempdir()?;
    let api = Api::start(&flags.common.programs, scratch.path()).await?;
    let kubeconfig = api.kubeconfig.clone();
    let cluster = Cluster::connect(Some(kubeconfig.clone()), "").await?;
    let mut pairs = Vec::new();
    for number in 0..flags.pairs {
        let pair = Pair::start(&flags.common, scratch.path(), &kubeconfig, &cluster, number).await;
        pairs.push(pair.with_context(|| format!("pair {number}"))?);
    }
    let nodes = pairs.iter().map(|pair| pair.node.clone()).collect();
    let control = tokio::spawn(lifecycle::control(cluster.clone(), nodes));
    try_join_all(pairs.iter().map(|pair| pair.until_ready(&cluster))).await.context("before the outages")?;

    let outage = Duration::from_secs(flags.outage);
    let refused = lose(&pairs, &cluster, Way::Refused, outage, "refused").await?;
    let swallowed = lose(&pairs, &cluster, Way::Swallowed, outage, "swallowed").await?;
    let mut restarts = Vec::new();
    for pair in &mut pairs {
        restarts.push(pair.restart(&cluster).await.with_context(|| format!("restart of {}", pair.node))?);
    }
    control.abort();

    let mut ready = refused.ready;
    ready.extend(swallowed.ready);
    let mut results = Results::default();
    let what = |what: &str| format!("{what}, longest (s)");
    results.add("api_outage_s", &what("API refused -> answers -> committed"), longest(&refused.commit));
    results.add("api_blackhole_s", &what("API silent -> answers -> committed"), longest(&swallowed.commit));
    results.add("cloud_restart_s", &what("CloudCore listens -> committed"), longest(&restarts));
    if !ready.is_empty() {
        results.add("node_ready_s", &what("API answers -> node Ready"), longest(&ready));
    }
    results.add("nodes_lost", "nodes that had become Unknown", ready.len());
    results.add("runs", "samples of each", flags.pairs);
    results.add("outage_s", "each outage (s)", flags.outage);
    results.print();
    Ok(())
}

fn longest(samples: &[f64]) -> Value {
    rounded(samples.iter().copied().fold(f64::NAN, f64::max))
}

/// Takes the API server from all pairs for `outage`, changes something meanwhile, and gives it back.
async fn lose(pairs: &[Pair], cluster: &Cluster, way: Way, outage: Duration, text: &str) -> Result<Samples> {
    println!("API server {text} for {} s", outage.as_secs());
    pairs.iter().for_each(|pair| pair.relay.set(way));
    tokio::time::sleep(outage.mul_f64(0.9)).await;
    let mut wanted = Vec::new();
    for pair in pairs {
        let version = objects::patch(cluster, &pair.config_map, text).await?;
        let node: Value = cluster.get(&format!("/api/v1/nodes/{}", pair.node)).await?.parse()?;
        wanted.push((version, ready_of(&node) == "Unknown"));
    }
    tokio::time::sleep(outage.mul_f64(0.1)).await;
    pairs.iter().for_each(|pair| pair.relay.set(Way::Open));
    let back = wait::now();
    let waits = pairs.iter().zip(wanted).map(|(pair, (version, lost))| async move {
        let commit = pair.until_committed(&version, back).await?;
        let ready = pair.until_ready(cluster).await?;
        Ok::<_, anyhow::Error>((commit, lost.then(|| ready.duration_since(back).as_secs_f64())))
    });
    let mut samples = Samples::default();
    for (commit, ready) in try_join_all(waits).await? {
        samples.commit.push(commit);
        samples.ready.extend(ready);
    }
    Ok(samples)
}

impl Pair {
    async fn start(
        common: &Common,
        scratch: &Path,
        kubeconfig: &Path,
        cluster: &Cluster,
        number: usize,
    ) -> Result<Pair> {
        let (node, config_map) = (format!("edge-{number}"), format!("load-{number}"));
        let names = vec![config_map.clone()];
        let wanted = vec![
            objects::config_map(&config_map, "0"),
            objects::pod(&format!("reader-{number}"), &node, &names),
        ];
        objects::ensure_all(cluster, wanted).await?;
        let folder = scratch.join(&node);
        std::fs::create_dir_all(&folder)?;
        let (relay, relayed) = Relay::before(kubeconfig, &folder).await?;
        let ground = Ground::start(&Common { kubeconfig: Some(relayed), ..common.clone() }, 1).await?;
        let edge = FakeNode::start(common, &ground, &node).await?;
        let seen = edge.edge.open().await?;
        seen.wait_for(&names).await?;
        Ok(Pair { node, config_map, ground, relay, seen, _node: edge })
    }

    /// Seconds from `since` until the edge has committed `version`.
    async fn until_committed(&self, version: &str, since: Instant) -> Result<f64> {
        while self.seen.version(&self.config_map)?.as_deref() != Some(version) {
            ensure!(since.elapsed() < GIVE_UP, "{} does not get its config map", self.node);
            tokio::time::sleep(LOOK).await;
        }
        Ok(since.elapsed().as_secs_f64())
    }

    /// When the API server had the node as ready.
    async fn until_ready(&self, cluster: &Cluster) -> Result<Instant> {
        let since = wait::now();
        loop {
            let node = cluster.get(&format!("/api/v1/nodes/{}", self.node)).await;
            // A node registers after its edge has connected.
            if node.is_ok_and(|node| node.parse::<Value>().is_ok_and(|node| ready_of(&node) == "True")) {
                return Ok(wait::now());
            }
            ensure!(since.elapsed() < GIVE_UP, "node {} does not become ready", self.node);
            tokio::time::sleep(LOOK * 5).await;
        }
    }

    /// Kills CloudCore and starts it again; seconds from its port to the commit of what changed meanwhile.
    async fn restart(&mut self, cluster: &Cluster) -> Result<f64> {
        self.ground.kill_cloud()?;
        let version = objects::patch(cluster, &self.config_map, "restarted").await?;
        self.ground.start_cloud().await?;
        self.until_committed(&version, wait::now()).await
    }
}
