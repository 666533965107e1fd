//! A link that is cut a hundred times and ends that are killed, under twin reports and object updates: what is lost,
//! reverted or written twice.

mod history;
mod namespace;
mod relay;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use cloudcore::kubernetes::Cluster;
use harness::process::Process;
use rand::RngExt;
use store::rusqlite::{Connection, OpenFlags};

use crate::ground::{Api, Ground};
use crate::reporter::device_name;
use crate::result::Results;
use crate::way::{self, Way};
use crate::{Common, hollow, objects};
use history::History;
use namespace::Namespace;
use relay::{Cut, Relay};

const NODE: &str = "edge-1";
const DEVICES: usize = 100;
const CONFIG_MAPS: usize = 100;
/// How long packets are dropped; the edge gives up a silent link after three seconds.
const BLACKHOLE: (u64, u64) = (500, 5000);
/// How long the API server is away: longer than sessions may be silent.
const OUTAGE: (u64, u64) = (500, 6000);
/// Time without progress after which what has not arrived is lost.
const SETTLE: Duration = Duration::from_secs(90);

#[derive(clap::Args, Clone)]
pub(crate) struct Flags {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 100)]
    cuts: usize,
    /// Kills of each side.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// Times the API server is away or silent for CloudCore.
    #[arg(long, default_value_t = 20)]
    outages: usize,
    #[arg(long, default_value_t = 100_000)]
    reports: u64,
    #[arg(long, default_value_t = 10_000)]
    updates: usize,
}

pub(crate) async fn run(flags: &Flags) -> Result<()> {
    let common = &flags.common;
    let namespace = Namespace::make()?;
    let scratch = tempfile::tempdir()?;
    let (_api, kubeconfig) = match &common.kubeconfig {
        Some(given) => (None, given.clone()),
        None => {
            let api = Api::start(&common.programs, scratch.path()).await?;
            let kubeconfig = api.kubeconfig.clone();
            (Some(api), kubeconfig)
        }
    };
    let (way, relayed) = way::Relay::before(&kubeconfig, scratch.path()).await?;
    let behind = Common { kubeconfig: Some(relayed), ..common.clone() };
    let mut ground = Ground::start_impatient(&behind, 1, &namespace.host().to_string()).await?;
    // Only CloudCore's way fails.
    ground.cluster = Cluster::connect(Some(kubeconfig.clone()), "").await?;
    ground.kubeconfig = kubeconfig;
    let names: Vec<String> = (0..CONFIG_MAPS).map(|n| format!("load-{n}")).collect();
    let mut wanted = vec![objects::node(NODE), objects::device_model()];
    wanted.extend((0..DEVICES).map(|number| objects::device(&device_name(number), NODE)));
    wanted.extend(names.iter().map(|name| objects::config_map(name, "0")));
    wanted.push(objects::pod("reader", NODE, &names));
    objects::ensure_all(&ground.cluster, wanted).await?;
    let history = History::follow(&ground)?;
    history.wait_begun(DEVICES).await?;

    let target = format!("127.0.0.1:{}", ground.port).parse()?;
    let relay = Relay::start(namespace.host().into(), target).await?;
    let folder = ground.scratch.path().join(NODE);
    hollow::write_identity(&ground.authority().await?, &folder, NODE)?;
    let each = flags.reports / DEVICES as u64;
    // About as long as the faults take.
    let faults = flags.cuts + 2 * flags.kills + flags.outages;
    let pace = (faults as u64 * 1800 / each.max(1)).max(1);
    let start = || start_edge(common, &folder, &namespace, &relay, each, pace);
    let mut edge = start()?;

    let updating = {
        let (cluster, names) = (ground.cluster.clone(), names.clone());
        let (updates, pause) =
            (flags.updates, Duration::from_millis(faults as u64 * 1500 / flags.updates.max(1) as u64));
        tokio::spawn(async move {
            for number in 0..updates {
                let name = &names[number % names.len()];
                objects::patch(&cluster, name, &format!("update {number}")).await?;
                tokio::time::sleep(pause).await;
            }
            anyhow::Ok(())
        })
    };
    let watching = watch_versions(folder.join("edgecore.db"));

    let (mut done, mut outages) = ((0, 0, 0), 0);
    while done != (flags.cuts, flags.kills, flags.kills) || outages < flags.outages {
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(100..900))).await;
        let left = (flags.cuts - done.0, flags.kills - done.1, flags.kills - done.2);
        let away = flags.outages - outages;
        let choice = rand::rng().random_range(0..left.0 + left.1 + left.2 + away);
        if choice >= left.0 + left.1 + left.2 {
            way.set(if outages % 2 == 0 { Way::Refused } else { Way::Swallowed });
            let time = rand::rng().random_range(OUTAGE.0..OUTAGE.1);
            tokio::time::sleep(Duration::from_millis(time)).await;
            way.set(Way::Open);
            outages += 1;
        } else if choice < left.0 {
            match done.0 % 3 {
                0 => relay.cut(Cut::Reset),
                1 => relay.cut(Cut::HalfOpen),
                _ => {
                    namespace.blackhole(true)?;
                    let time = rand::rng().random_range(BLACKHOLE.0..BLACKHOLE.1);
                    tokio::time::sleep(Duration::from_millis(time)).await;
                    namespace.blackhole(false)?;
                }
            }
            done.0 += 1;
        } else if choice < left.0 + left.1 {
            edge.kill9()?;
            edge = start()?;
            done.1 += 1;
        } else {
            ground.kill_cloud()?;
            ground.start_cloud().await?;
            done.2 += 1;
        }
    }
    updating.await??;
    println!("faults are over, settling");

    let began = harness::wait::now();
    let (mut progress, mut progressed) = ((0, 0), began);
    loop {
        history.check()?;
        let (arrived, waiting) = (history.distinct(), outbox_rows(&folder)?);
        let settled = arrived >= each * DEVICES as u64
            && versions(&folder)? == api_versions(&ground, &names).await?
            && waiting == 0;
        if progress != (arrived, waiting) {
            (progress, progressed) = ((arrived, waiting), harness::wait::now());
        }
        if settled || progressed.elapsed() > SETTLE {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // What comes late and should not come at all.
    tokio::time::sleep(Duration::from_secs(3)).await;
    history.check()?;
    edge.check()?;
    let went_back = watching.finish()?;
    let (held, api) = (versions(&folder)?, api_versions(&ground, &names).await?);
    let missing = api.iter().filter(|entry| !held.contains(entry)).count();
    let counted = history.count(each, DEVICES);

    if counted.lost + missing as u64 > 0 {
        println!("lost: {} reports, {missing} newest objects; {}", counted.lost, counted.examples.join(", "));
        println!("kept: {}", ground.scratch.keep().display());
    }
    let mut results = Results::default();
    results.add("cuts", "links cut (reset, half open, packets dropped)", flags.cuts);
    results.add("kills", "kill -9 of CloudCore and of the edge, each", flags.kills);
    results.add("outages", "times the API server was away or silent", flags.outages);
    results.add("sent", "twin reports and object updates", each * DEVICES as u64 + flags.updates as u64);
    results.add("merged", "reports merged into later ones of their device", counted.merged);
    results.add("lost", "newest reports and objects that never arrived", counted.lost + missing as u64);
    results.add("reverted", "values or versions that went back", counted.reverted + went_back);
    results.add("duplicates", "reports the API server saw twice", counted.duplicates);
    results.add("settled_s", "from the last fault until all is there (s)", began.elapsed().as_secs());
    results.print();
    Ok(())
}

fn start_edge(
    common: &Common,
    folder: &Path,
    namespace: &Namespace,
    relay: &Relay,
    each: u64,
    pace: u64,
) -> Result<Process> {
    let mut command = namespace.command(&std::env::current_exe()?);
    command.args(["reporter", "--node", NODE, "--folder"]).arg(folder);
    command.args(["--server", &relay.address().to_string(), "--dialect", &common.dialect]);
    command.args(["--devices", &DEVICES.to_string(), "--each", &each.to_string()]);
    command.args(["--pace", &pace.to_string()]);
    Process::start(command, "reporter", &folder.join("reporter.log"))
}

fn open(folder: &Path) -> Result<Connection> {
    Ok(Connection::open_with_flags(folder.join("edgecore.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)?)
}

fn versions(folder: &Path) -> Result<Vec<(String, String)>> {
    versions_in(&open(folder)?)
}

fn versions_in(db: &Connection) -> Result<Vec<(String, String)>> {
    let sql = "SELECT key, version FROM meta WHERE key LIKE 'default/configmap/load-%' ORDER BY key";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn outbox_rows(folder: &Path) -> Result<i64> {
    Ok(open(folder)?.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?)
}

async fn api_versions(ground: &Ground, names: &[String]) -> Result<Vec<(String, String)>> {
    let list: serde_json::Value =
        ground.cluster.get("/api/v1/namespaces/default/configmaps").await?.parse()?;
    let mut versions = Vec::new();
    for item in list["items"].as_array().context("items")? {
        let name = item["metadata"]["name"].as_str().unwrap_or_default();
        if names.iter().any(|known| known == name) {
            let version = item["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            versions.push((format!("default/configmap/{name}"), version.to_owned()));
        }
    }
    versions.sort();
    Ok(versions)
}

/// Looks at the edge's database all the time; counts versions that went back.
struct Watching {
    stop: tokio_util::sync::CancellationToken,
    thread: std::thread::JoinHandle<Result<u64>>,
}

fn watch_versions(database: std::path::PathBuf) -> Watching {
    let stop = tokio_util::sync::CancellationToken::new();
    let ended = stop.clone();
    let thread = std::thread::spawn(move || {
        let mut newest = std::collections::HashMap::new();
        let mut back = 0;
        let mut db = None;
        while !ended.is_cancelled() {
            harness::wait::pause(Duration::from_millis(20));
            if db.is_none() {
                db = Connection::open_with_flags(&database, OpenFlags::SQLITE_OPEN_READ_ONLY).ok();
            }
            let Some(db) = &db else { continue };
            // A database that is just being made or recovered.
            let Ok(found) = versions_in(db) else { continue };
            for (key, version) in found {
                let version: u64 = version.parse()?;
                let before = newest.insert(key, version).unwrap_or_default();
                back += u64::from(version < before);
            }
        }
        Ok(back)
    });
    Watching { stop, thread }
}

impl Watching {
    fn finish(self) -> Result<u64> {
        self.stop.cancel();
        self.thread.join().map_err(|_| anyhow::anyhow!("the watching thread failed"))?
    }
}
