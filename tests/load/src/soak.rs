//! An API server that fails, hangs and restarts, for as long as asked: nodes, pods that come and go, config maps that are
//! written, devices that report. What was lost, reverted, cut off, and how memory went.

mod changes;
mod faults;
mod memory;
mod record;
mod reports;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cloudcore::kubernetes::Cluster;
use harness::memory::resident_kb;
use harness::wait;
use serde_json::Value;
use store::rusqlite::{Connection, OpenFlags};
use tokio_util::sync::CancellationToken;

use crate::fake_node::FakeNode;
use crate::ground::{Api, Ground};
use crate::metrics::{metric, scrape};
use crate::result::{Results, rounded};
use crate::{Common, objects};
use changes::Wanted;
use faults::{Faults, Rates};
use memory::Memory;
use record::Record;
use reports::Reports;

/// Config maps and devices of each node.
const CONFIG_MAPS: usize = 5;
const DEVICES: usize = 5;
/// Time the nodes get to be ready at the start, and all to be in step at the end.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between looks at databases and memory.
const LOOK: Duration = Duration::from_millis(500);
/// Counts sessions since CloudCore started.
const SESSIONS_STARTED: &str = "cloudcore_cloudhub_sessions_started_total";
/// Time the API server is away at each restart.
const AWAY: Duration = Duration::from_secs(5);

#[derive(clap::Args, Clone)]
pub(crate) struct Flags {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 20)]
    edges: usize,
    /// Pods of all nodes.
    #[arg(long, default_value_t = 200)]
    pods: usize,
    /// Reports a second, of all devices.
    #[arg(long, default_value_t = 50)]
    reports: u32,
    /// Config maps and pods changed a second.
    #[arg(long, default_value_t = 8)]
    changes: u32,
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// Seconds between restarts of the API server.
    #[arg(long, default_value_t = 300)]
    restart_every: u64,
    /// Of a hundred requests of CloudCore, how many fail.
    #[arg(long, default_value_t = 5.0)]
    fail: f64,
    /// Of a hundred, how many are never answered.
    #[arg(long, default_value_t = 1.0)]
    hang: f64,
}

struct Node {
    name: String,
    fake: FakeNode,
    reports: Option<Reports>,
    database: Connection,
    memory: Memory,
    /// Newest version seen of each config map.
    newest: std::collections::HashMap<String, u64>,
}

pub(crate) async fn run(flags: &Flags) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("causeway-soak-").tempdir()?;
    let mut api = Api::start(&flags.common.programs, scratch.path()).await?;
    let direct = Cluster::connect(Some(api.kubeconfig.clone()), "").await?;
    let record = Arc::<Record>::default();
    let faults = Faults::before(&api.kubeconfig, scratch.path(), record.clone()).await?;
    let common = Common { kubeconfig: Some(faults.kubeconfig.clone()), ..flags.common.clone() };
    let mut ground = Ground::start(&common, flags.edges).await?;

    let names: Vec<String> = (0..flags.edges).map(|number| format!("edge-{number}")).collect();
    let wanted = Wanted::start(&names, CONFIG_MAPS, flags.pods / flags.edges.max(1));
    wanted.make_all(&direct, CONFIG_MAPS).await.context("making the objects")?;
    make_devices(&direct, &names).await?;
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(start_node(&flags.common, &ground, name).await?);
    }
    let began = wait::now();
    while let Some(wrong) = first_wrong(&nodes, &wanted, &direct).await? {
        ensure!(began.elapsed() < PATIENCE, "before the faults: {wrong}");
        tokio::time::sleep(LOOK).await;
    }
    println!("{} nodes with {} pods are in step; faults begin", nodes.len(), wanted.pods.len());

    let stop = CancellationToken::new();
    let pace = Duration::from_secs(1) * u32::try_from(nodes.len())? / flags.reports.max(1);
    for node in &mut nodes {
        let port = node.fake.edge.mqtt_port;
        node.reports = Some(Reports::start(port, &node.name, DEVICES, pace, stop.clone()));
    }
    // Programs from before there were metrics are measured without.
    let sessions_before = metric(&scrape(&ground.monitor).await?, SESSIONS_STARTED);
    faults.set(Rates { fail: flags.fail / 100.0, hang: flags.hang / 100.0 });
    let pace = Duration::from_secs(1) / flags.changes.max(1);
    let mut changing = tokio::spawn(wanted.change(direct.clone(), pace, stop.clone()));

    let (mut cloud, mut restarts, mut reverted) = (Memory::default(), 0, 0);
    let begun = wait::now();
    let mut next_restart = Duration::from_secs(flags.restart_every);
    while begun.elapsed() < Duration::from_secs(flags.seconds) {
        tokio::select! {
            ended = &mut changing => bail!("the changes ended early: {:?}", ended?.map(drop)),
            _ = tokio::time::sleep(LOOK) => {}
        }
        ground.cloud.as_mut().context("no cloudcore")?.check()?;
        cloud.add(resident_kb(ground.cloud_pid()?)?);
        for node in &mut nodes {
            node.fake.edge.process.check()?;
            node.memory.add(resident_kb(node.fake.edge.pid()?)?);
            reverted += node.versions_that_went_back()?;
        }
        if begun.elapsed() >= next_restart {
            next_restart += Duration::from_secs(flags.restart_every);
            restart(&mut api, &faults, &direct, &record).await?;
            restarts += 1;
            let (at, counts) = (begun.elapsed().as_secs(), faults.counts());
            println!("{at:>5} s: restart {restarts}, {counts:?}, CloudCore {} KiB", cloud.last());
        }
    }

    stop.cancel();
    let wanted = changing.await??;
    for node in &nodes {
        let reports = node.reports.as_ref().context("no reports")?;
        reports.finish(PATIENCE).await.with_context(|| node.name.clone())?;
    }
    let counts = faults.counts();
    faults.set(Rates::default());
    let ended = wait::now();
    let devices =
        || nodes.iter().filter_map(|node| node.reports.as_ref()).flat_map(|reports| &reports.devices);
    let sent =
        || devices().map(|(name, value)| (name.as_str(), value.load(std::sync::atomic::Ordering::Relaxed)));
    let wrong = loop {
        let wrong = first_wrong(&nodes, &wanted, &direct).await?;
        if (wrong.is_none() && record.show(sent()).lost == 0) || ended.elapsed() > PATIENCE {
            break wrong;
        }
        tokio::time::sleep(LOOK).await;
    };
    if let Some(wrong) = &wrong {
        println!("not in step: {wrong}");
    }
    let shown = record.show(sent());
    let metrics = scrape(&ground.monitor).await?;
    for line in metrics.lines().filter(|line| line.starts_with("cloudcore_cloudhub_")) {
        println!("  {line}");
    }

    let mut results = Results::default();
    results.add("seconds", "time of faults (s)", flags.seconds);
    results.add("edges", "edges", nodes.len());
    results.add("requests", "requests of CloudCore", counts.requests);
    results.add("failed", "of them failed", counts.failed);
    results.add("hung", "of them never answered", counts.hung);
    results.add("restarts", "kills of the API server", restarts);
    results.add("reports", "values reported", sent().map(|(_, value)| value).sum::<u64>());
    results.add("merged", "of them merged into later ones", shown.merged);
    results.add("lost", "of them never written, nor a later one", shown.lost);
    results.add("duplicates", "written twice", shown.duplicates);
    results.add("reverted", "objects that went back", shown.reverted + reverted);
    results.add("out_of_step", "objects of the end state that are wrong", u64::from(wrong.is_some()));
    if let (Some(before), Some(now)) = (sessions_before, metric(&metrics, SESSIONS_STARTED)) {
        results.add("sessions_cut", "sessions that ended", now - before);
    }
    results.add(
        "settled_s",
        "from the last fault until all was in step (s)",
        rounded(ended.elapsed().as_secs_f64()),
    );
    let (early, late) = cloud.early_and_late();
    results.add("cloud_early_kb", "CloudCore, second tenth of the time (KiB)", early);
    results.add("cloud_late_kb", "CloudCore, last tenth (KiB)", late);
    let edges: Vec<(u64, u64)> = nodes.iter().map(|node| node.memory.early_and_late()).collect();
    let mean = |sum: u64| sum / edges.len().max(1) as u64;
    results.add(
        "edge_early_kb",
        "EdgeCore, mean, second tenth (KiB)",
        mean(edges.iter().map(|(early, _)| early).sum()),
    );
    results.add(
        "edge_late_kb",
        "EdgeCore, mean, last tenth (KiB)",
        mean(edges.iter().map(|(_, late)| late).sum()),
    );
    results.print();
    Ok(())
}

async fn make_devices(cluster: &Cluster, nodes: &[String]) -> Result<()> {
    let devices = nodes.iter().flat_map(|node| {
        reports::device_names(node, DEVICES).into_iter().map(|name| objects::device(&name, node))
    });
    objects::ensure_all(cluster, [objects::device_model()].into_iter().chain(devices).collect()).await
}

async fn start_node(common: &Common, ground: &Ground, name: String) -> Result<Node> {
    let fake = FakeNode::start(common, ground, &name).await.with_context(|| name.clone())?;
    fake.edge.open().await?.wait_for(&changes::config_maps(&name, CONFIG_MAPS)).await?;
    let database = Connection::open_with_flags(&fake.edge.database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    Ok(Node { name, fake, reports: None, database, memory: Memory::default(), newest: Default::default() })
}

/// Kills the API server and starts it again. What it had taken is looked at before CloudCore reaches it: answers that
/// were on their way at the kill are in no record.
async fn restart(api: &mut Api, faults: &Faults, direct: &Cluster, record: &Record) -> Result<()> {
    faults.take_away();
    api.kill9()?;
    tokio::time::sleep(AWAY).await;
    api.start_again().await?;
    for list in ["/apis/devices.kubeedge.io/v1beta1/devicestatuses", "/api/v1/pods"] {
        record.take(direct.get(list).await?.text().as_bytes());
    }
    faults.give_back();
    Ok(())
}

impl Node {
    fn versions_that_went_back(&mut self) -> Result<u64> {
        let sql = "SELECT key, version FROM meta WHERE type = 'configmap'";
        let mut statement = self.database.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        let mut back = 0;
        for row in rows {
            let (key, version) = row?;
            let version: u64 = version.parse()?;
            back += u64::from(self.newest.insert(key, version).unwrap_or_default() > version);
        }
        Ok(back)
    }

    /// What the node holds of `kind`: names and the value at `path`.
    fn held(&self, kind: &str, path: &str) -> Result<std::collections::BTreeMap<String, u64>> {
        let sql = "SELECT json_extract(value, '$.metadata.name'), json_extract(value, ?2) FROM meta WHERE type = ?1";
        let mut statement = self.database.prepare_cached(sql)?;
        let rows = statement.query_map([kind, path], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
        })?;
        rows.map(|row| {
            let (name, value) = row?;
            Ok((name, value.map_or(Ok(0), |value| value.parse())?))
        })
        .collect()
    }
}

/// The first thing that is not as it should be, if any: objects at the edge, and what the API server says of the pods.
async fn first_wrong(nodes: &[Node], wanted: &Wanted, direct: &Cluster) -> Result<Option<String>> {
    for node in nodes {
        for (name, text) in node.held("configmap", "$.data.text")? {
            if wanted.config_maps.get(&name).is_some_and(|wanted| *wanted != text) {
                return Ok(Some(format!("config map {name} of {} says {text}", node.name)));
            }
        }
        let held = node.held("pod", "$.metadata.annotations.mark")?;
        let of_node = wanted.pods.iter().filter(|(_, (of, _))| *of == node.name);
        let should: std::collections::BTreeMap<String, u64> =
            of_node.map(|(name, (_, mark))| (name.clone(), *mark)).collect();
        if held != should {
            return Ok(Some(format!("pods of {} are {held:?}, not {should:?}", node.name)));
        }
    }
    let list: Value = direct.get("/api/v1/namespaces/default/pods").await?.parse()?;
    let pods = list["items"].as_array().context("items")?;
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let (phase, gone) = (&pod["status"]["phase"], !pod["metadata"]["deletionTimestamp"].is_null());
        if phase != "Running" || gone || !wanted.pods.contains_key(name) {
            return Ok(Some(format!("pod {name} is {phase}, being deleted: {gone}")));
        }
    }
    Ok((pods.len() != wanted.pods.len()).then(|| format!("{} pods of {}", pods.len(), wanted.pods.len())))
}
