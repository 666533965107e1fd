//! `cargo xtask bench NAME`: measures on release builds; prints a table and, last, `RESULT {json}`.

mod compare;
mod history;
mod idle;
mod traffic;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::{build, clients, packages};

#[derive(Args)]
pub(crate) struct Flags {
    #[command(subcommand)]
    name: Name,
}

#[derive(Subcommand)]
enum Name {
    /// Resident memory and binary sizes, idle with the demo's objects.
    Idle,
    /// Change in the API server -> committed at the edge, one at a time.
    Propagate(Link),
    /// A thousand config maps of one node as fast as the API server takes them.
    Burst(Link),
    /// CloudCore dies and comes back; one edge.
    Reconnect(Link),
    /// The API server is away or silent, or CloudCore starts again: how long until all is in step.
    Recovery(Link),
    /// Bytes between an idle node with five pods and its cloud, in both dialects.
    Traffic(traffic::Flags),
    /// Cuts and kills under load: what is lost, reverted or written twice.
    Cuts(Link),
    /// An hour of an API server that fails, hangs and restarts: what is lost, reverted or cut off, and memory.
    Soak(Link),
    /// EdgeCore is killed while pods come and go on a real containerd: what runs twice, restarts or stays.
    Crash(Link),
    /// A hundred starts of EdgeCore with a damaged database or configuration: what stops, and what is made twice.
    Damage(Link),
    /// Thousands of pods come and go: what EdgeCore holds afterwards in memory, files, mounts and cgroups.
    Churn(Link),
    /// Ten thousand devices: CloudCore's start beside them, and values a second that an edge takes over MQTT.
    Devices(Link),
    /// A pod from its making to running, against the runtime's own calls; fifty at once.
    Pods(Link),
    /// EdgeCore's memory with 0, 5, 20, 50 pods, and what it uses while idle.
    Memory(Link),
    /// MetaServer beside 20 pods and three informers: memory, answers with the link and without, objects of all sizes.
    Metaserver(Link),
    /// Power-on without a link: all pods run again, and how long that takes.
    Poweron(Link),
    /// Logs, commands and files through the link, against the Node API itself.
    Streams(Link),
    /// Commands, logs and files of a node, a thousand times from each of two CloudCores.
    Replicas(Link),
    /// Hostile peers against programs that may hold 128 MiB each.
    Attack(Link),
    /// CloudCore beside config maps and secrets that hardly any edge uses: what it holds.
    Unused(Link),
    /// An API server under objects, lists, watchers and writers: the embedded one, or any cluster (`--kubeconfig FILE --pid N --data DIR`).
    Api(Link),
    /// Ten minutes of informers of Python, JavaScript and kube-rs over fifty cuts and kills: what they missed, told twice or made up.
    Informers(Link),
    /// Thousands of hollow edges: memory, CPU, storms.
    Fleet(Link),
    /// Append what was measured to benches/history.jsonl, with the commit and the machine.
    Record(history::Record),
    /// Two lines of benches/history.jsonl side by side.
    Compare(compare::Flags),
}

/// Flags of the link's scenarios go to `load` as they are: --kubeconfig FILE, --quic, --dialect kubeedge, --edges N,
/// --kills N, --cycles N ...
#[derive(Args)]
struct Link {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<String>,
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    match &flags.name {
        Name::Idle => idle::run(),
        Name::Propagate(link) => load("propagate", link),
        Name::Burst(link) => load("burst", link),
        Name::Reconnect(link) => load("reconnect", link),
        Name::Recovery(link) => load("recovery", link),
        Name::Traffic(flags) => traffic::run(flags),
        Name::Cuts(link) => load("cuts", link),
        Name::Soak(link) => load("soak", link),
        Name::Crash(link) => pods("crash", link),
        Name::Churn(link) => pods("churn", link),
        Name::Damage(link) => pods("damage", link),
        Name::Devices(link) => load("devices", link),
        Name::Pods(link) => pods("pods", link),
        Name::Memory(link) => pods("memory", link),
        Name::Metaserver(link) => pods("metaserver", link),
        Name::Poweron(link) => pods("poweron", link),
        Name::Streams(link) => pods("streams", link),
        Name::Replicas(link) => pods("replicas", link),
        Name::Attack(link) => load("attack", link),
        Name::Unused(link) => load("unused", link),
        Name::Api(link) => load("api", link),
        Name::Informers(link) => informers(link),
        Name::Fleet(link) => load("fleet", link),
        Name::Record(flags) => history::record(flags),
        Name::Compare(flags) => compare::run(flags),
    }
}

/// A scenario with containers.
fn pods(scenario: &str, link: &Link) -> Result<()> {
    packages::ensure()?;
    load(scenario, link)
}

/// A scenario with other people's clients.
fn informers(link: &Link) -> Result<()> {
    clients::ensure()?;
    load("informers", link)
}

fn load(scenario: &str, link: &Link) -> Result<()> {
    build::release()?;
    let folder = build::target().join("release");
    let mut command = std::process::Command::new(folder.join("load"));
    command.arg(scenario).arg("--programs").arg(&folder).args(&link.flags);
    let status = command.status().context("running load")?;
    anyhow::ensure!(status.success(), "load {scenario} ended with {status}");
    Ok(())
}

/// One measured number.
struct Measured {
    key: &'static str,
    what: &'static str,
    value: f64,
    unit: &'static str,
}

/// Whole numbers without a fraction, others with two digits.
fn number(value: f64) -> serde_json::Value {
    if value.fract() == 0.0 {
        serde_json::json!(value as u64)
    } else {
        serde_json::json!((value * 100.0).round() / 100.0)
    }
}

fn print(results: &[Measured]) {
    println!();
    for result in results {
        println!("  {:<40} {:>10} {}", result.what, number(result.value), result.unit);
    }
    let keys = results.iter().map(|result| (result.key.to_owned(), number(result.value)));
    let json: serde_json::Map<String, serde_json::Value> = keys.collect();
    println!("\nRESULT {}", serde_json::Value::Object(json));
}
