//! Thousands of devices of a few models: how long CloudCore takes to start beside them and what it asks the API server
//! meanwhile, and how many values a second an edge takes from MQTT clients, each on disk before it is acknowledged.
//!
//! Two builds are compared by their folders, in one run: `--programs` and `--base`.

mod reports;
mod set;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::wait;
use serde_json::Value;
use store::rusqlite::{Connection, OpenFlags};

use crate::Common;
use crate::edge::Edge;
use crate::ground::{Ground, cpu_ms};
use crate::memory::written_kb;
use crate::metrics::{scrape, total};
use crate::result::{Results, percentile, rounded};
use reports::Reports;
use set::{Newest, Set};

/// Longest a start may take: builds that make a request for each device are measured as well.
const PATIENCE: Duration = Duration::from_secs(600);
/// Longest wait for what the edge should have and for what the cloud should hear.
const SETTLE: Duration = Duration::from_secs(300);
const REQUESTS: &str = "cloudcore_kubernetes_requests_total";

#[derive(clap::Args, Clone)]
pub(crate) struct Flags {
    #[command(flatten)]
    common: Common,
    /// Folder with the programs of another build, measured in the same run.
    #[arg(long)]
    base: Option<PathBuf>,
    #[arg(long, default_value_t = 10_000)]
    devices: usize,
    #[arg(long, default_value_t = 10)]
    nodes: usize,
    /// Properties of each model.
    #[arg(long, value_delimiter = ',', default_values_t = [5, 10, 30])]
    properties: Vec<usize>,
    /// Starts of CloudCore, after a first one that finds no DeviceStatus objects.
    #[arg(long, default_value_t = 3)]
    starts: usize,
    /// MQTT clients, each of which reports a part of one node's devices, property by property.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Values of each client that wait for their acknowledgement.
    #[arg(long, default_value_t = 64)]
    in_flight: u16,
    /// Seconds of reporting to measure.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// And before that.
    #[arg(long, default_value_t = 5)]
    warm_up: u64,
}

/// What one build did.
struct Measured {
    /// With no DeviceStatus there; the other starts find all.
    first_start_s: f64,
    cloud_start_s: f64,
    cloud_start_requests: Option<u64>,
    reported: Reported,
}

/// What an edge did with the values of its devices.
#[derive(Clone, Copy)]
struct Reported {
    /// Acknowledged while measured.
    reports: u64,
    per_s: f64,
    cpu_ms_per_1000: f64,
    written_kb_per_1000: f64,
    /// Acknowledged values that were not on disk after a kill.
    lost: usize,
    /// Seconds from the next start until the outbox was empty.
    settled_s: f64,
    /// Properties whose newest value is not in the DeviceStatus then.
    stale: usize,
}

pub(crate) async fn run(flags: &Flags) -> Result<()> {
    ensure!(
        flags.nodes > 0 && flags.clients > 0 && flags.starts > 0,
        "nodes, clients and starts: at least one"
    );
    ensure!(flags.properties.iter().all(|count| *count > 0), "a model needs a property");
    let set = Set { devices: flags.devices, nodes: flags.nodes, properties: flags.properties.clone() };
    let mut results = Results::default();
    results.add("devices", "devices of the cluster", flags.devices);
    results.add("node_devices", "of them on the node that reports", set.of_node(0).count());
    let own = measure(flags, &flags.common, &set).await?;
    own.add(&mut results, "");
    if let Some(programs) = &flags.base {
        let common = Common { programs: programs.clone(), ..flags.common.clone() };
        let base = measure(flags, &common, &set).await.context("the base")?;
        base.add(&mut results, "base_");
        let start = own.cloud_start_s / base.cloud_start_s;
        results.add("cloud_start_ratio", "start of CloudCore, against the base", rounded(start));
        let ratio = own.reported.per_s / base.reported.per_s;
        results.add("twin_reports_ratio", "values a second, against the base", rounded(ratio));
    }
    results.print();
    Ok(())
}

async fn measure(flags: &Flags, common: &Common, set: &Set) -> Result<Measured> {
    let mut ground = Ground::start(common, flags.nodes).await?;
    // The objects come while nobody watches: what is measured is a start.
    ground.kill_cloud()?;
    println!("  making {} devices", set.devices);
    set.make(&ground.cluster).await?;
    let first_start_s = start(&mut ground).await?;
    set.make_statuses(&ground.cluster).await?;
    let mut starts = Vec::with_capacity(flags.starts);
    for _ in 0..flags.starts {
        ground.kill_cloud()?;
        starts.push(start(&mut ground).await?);
    }
    let cloud_start_requests = total(&scrape(&ground.monitor).await?, REQUESTS);
    let reported = reported(flags, common, set, &ground).await?;
    let cloud_start_s = percentile(&mut starts, 50.0);
    Ok(Measured { first_start_s, cloud_start_s, cloud_start_requests, reported })
}

/// Seconds from the start of CloudCore until it serves edges.
async fn start(ground: &mut Ground) -> Result<f64> {
    let began = wait::now();
    ground.launch_cloud()?;
    ground.wait_serving_for(PATIENCE).await?;
    let seconds = began.elapsed().as_secs_f64();
    println!("  CloudCore served after {seconds:.2} s");
    Ok(seconds)
}

/// The first node's devices report; then EdgeCore is killed, and what it acknowledged is looked for.
async fn reported(flags: &Flags, common: &Common, set: &Set, ground: &Ground) -> Result<Reported> {
    let node = set::node_name(0);
    let mut edge = Edge::start(common, ground, &node, &ground.server()).await?;
    let began = wait::now();
    while rows(&edge.database, "device").unwrap_or(0) < set.of_node(0).count() as i64 {
        edge.process.check()?;
        ensure!(began.elapsed() < SETTLE, "the devices of {node} do not arrive");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("  {} clients report", flags.clients);
    let reports = Reports::start(edge.mqtt_port, set, flags.clients, flags.in_flight);
    tokio::time::sleep(Duration::from_secs(flags.warm_up)).await;
    let began = wait::now();
    let before = (reports.acknowledged(), cpu_ms(edge.pid()?)?, written_kb(edge.pid()?)?);
    tokio::time::sleep(Duration::from_secs(flags.seconds)).await;
    let count = reports.acknowledged() - before.0;
    let seconds = began.elapsed().as_secs_f64();
    let (cpu, written) = (cpu_ms(edge.pid()?)? - before.1, written_kb(edge.pid()?)? - before.2);
    let newest = reports.finish(SETTLE).await?;
    edge.process.kill9()?;
    let lost = lost(&edge.database, &newest)?;

    let edge = Edge::start(common, ground, &node, &ground.server()).await?;
    let began = wait::now();
    while rows(&edge.database, "outbox")? > 0 && began.elapsed() < SETTLE {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let settled_s = began.elapsed().as_secs_f64();
    let stale = set.stale(&ground.cluster, &newest).await?;
    let per_1000 = |value: f64| value * 1000.0 / (count.max(1) as f64);
    Ok(Reported {
        reports: count,
        per_s: count as f64 / seconds,
        cpu_ms_per_1000: per_1000(cpu),
        written_kb_per_1000: per_1000(written),
        lost,
        settled_s,
        stale,
    })
}

/// A connection that sees what is committed.
fn open(database: &Path) -> Result<Connection> {
    Ok(Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?)
}

fn rows(database: &Path, table: &str) -> Result<i64> {
    Ok(open(database)?.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?)
}

/// Newest values that are not in the database.
fn lost(database: &Path, newest: &Newest) -> Result<usize> {
    // For writing: what a killed process left in the log is recovered.
    let db = Connection::open(database)?;
    let mut statement = db.prepare("SELECT deviceid || ' ' || name, actual FROM device_twin")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let stored: HashMap<String, String> = rows.collect::<Result<_, _>>()?;
    let is_there = |(device, property): &(usize, usize), value: &u64| {
        let key = format!("default/{} {}", set::device_name(*device), set::property_name(*property));
        stored.get(&key) == Some(&value.to_string())
    };
    Ok(newest.iter().filter(|(property, value)| !is_there(property, value)).count())
}

impl Measured {
    fn add(&self, results: &mut Results, prefix: &str) {
        let mut add = |key: &str, what: &str, value: Value| {
            results.add(&format!("{prefix}{key}"), &format!("{prefix}{what}"), value);
        };
        let Reported { reports, per_s, cpu_ms_per_1000, written_kb_per_1000, lost, stale, settled_s } =
            self.reported;
        let first = "CloudCore, first start until it serves edges (s)";
        add("cloud_first_start_s", first, rounded(self.first_start_s));
        add(
            "cloud_start_s",
            "CloudCore, start until it serves edges, median (s)",
            rounded(self.cloud_start_s),
        );
        let requests = "requests of a start, without those of watches";
        add("cloud_start_requests", requests, self.cloud_start_requests.into());
        add("reports", "values acknowledged while measured", reports.into());
        add("twin_reports_per_s", "values acknowledged a second", rounded(per_s));
        add("edge_cpu_ms_per_1000", "CPU of EdgeCore for 1,000 values (ms)", rounded(cpu_ms_per_1000));
        let written = "written to disk for 1,000 values (KiB)";
        add("edge_written_kb_per_1000", written, rounded(written_kb_per_1000));
        add("lost", "acknowledged values not on disk after a kill", lost.into());
        add("settled_s", "from EdgeCore's next start until all was sent (s)", rounded(settled_s));
        add("stale", "properties whose newest value the cloud lacks", stale.into());
    }
}
