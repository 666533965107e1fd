//! `load`: measures the link. `cargo xtask bench NAME` builds the programs and runs this.
#![allow(clippy::print_stdout)] // A tool for people at a terminal.

mod api;
mod attack;
mod burst;
mod cgroup;
mod churn;
mod crash;
mod cuts;
mod damage;
mod devices;
mod dictionary;
mod edge;
mod fake_node;
mod fleet;
mod ground;
mod hollow;
mod informers;
mod latency;
mod memory;
mod metaserver;
mod metrics;
mod objects;
mod pods;
mod poweron;
mod propagate;
mod reconnect;
mod recovery;
mod reporter;
mod result;
mod soak;
mod start;
mod streams;
mod throttle;
mod unused;
mod way;
mod workers;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(name = "load")]
struct Flags {
    #[command(subcommand)]
    name: Name,
}

/// What every scenario needs.
#[derive(Args, Clone)]
pub struct Common {
    /// Folder with the programs to measure.
    #[arg(long)]
    programs: PathBuf,
    /// Use this cluster instead of an API server of our own.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// `auto` or `kubeedge`.
    #[arg(long, default_value = "auto")]
    dialect: String,
    /// Connect over QUIC.
    #[arg(long)]
    quic: bool,
}

#[derive(Subcommand)]
enum Name {
    /// Change in the API server -> committed at the edge, one at a time.
    Propagate(Common),
    /// A thousand config maps as fast as the API server takes them.
    Burst(Common),
    /// CloudCore dies and comes back; one edge.
    Reconnect(Common),
    /// The API server is away or silent, or CloudCore starts again; edges in step and nodes ready after it.
    Recovery(recovery::Flags),
    /// Thousands of hollow edges.
    Fleet {
        #[command(flatten)]
        common: Common,
        #[arg(long, default_value_t = 10_000)]
        edges: usize,
        /// Seconds of idling to measure.
        #[arg(long, default_value_t = 60)]
        idle: u64,
    },
    /// Cuts and kills under load: nothing lost, reverted or written twice.
    Cuts(cuts::Flags),
    /// An API server that fails, hangs and restarts under pods, config maps and reports: nothing lost, reverted or cut off.
    Soak(soak::Flags),
    /// EdgeCore is killed while pods come and go: nothing runs twice, restarts without cause or stays.
    Crash(crash::Flags),
    /// EdgeCore starts with a damaged database or configuration: nothing stops, nothing is made twice.
    Damage(damage::Flags),
    /// Thousands of devices: CloudCore's start beside them, and values a second that an edge takes over MQTT.
    Devices(devices::Flags),
    /// Thousands of pods come and go: what EdgeCore holds afterwards.
    Churn(churn::Flags),
    /// A pod from its making to running, against the runtime's own calls; fifty at once.
    Pods(start::Flags),
    /// Logs, commands and files through the link, against the Node API itself; their bytes, and what they do to objects.
    Streams(streams::Flags),
    /// Commands, logs and files of a node, asked of each of two CloudCores.
    Replicas(streams::replicas::Flags),
    /// What EdgeCore holds with so many pods, and uses while idle.
    Memory(memory::Flags),
    /// MetaServer: memory, answers with the link and without, objects of all sizes.
    Metaserver(metaserver::Flags),
    /// CloudCore beside config maps and secrets that hardly any edge uses.
    Unused(unused::Flags),
    /// Power-on without a link.
    Poweron(poweron::Flags),
    /// Informers of three clients over cuts and kills of an API server.
    Informers(informers::Flags),
    /// An API server under objects, lists and watchers; the embedded one, or any cluster beside it.
    Api(api::Flags),
    /// Hostile peers against programs that may hold 128 MiB each.
    Attack(attack::Flags),
    /// One attack of `attack`.
    Attacker(attack::orders::Flags),
    /// Starts a program in a cgroup.
    Confined(cgroup::Flags),
    /// The edge of `cuts`.
    Reporter(reporter::Flags),
    /// Train the compression dictionary of the native dialect.
    Dictionary(dictionary::Flags),
    /// Hollow edges of one process, told what to do on standard input.
    Hollow(workers::Flags),
}

/// How much nicer hollow edges are.
const NICE: i32 = 10;

fn main() -> Result<()> {
    pki::install_provider();
    daemon::stop::raise_open_files();
    let flags = Flags::parse();
    // Scenarios on a site, which has a runtime of its own.
    match &flags.name {
        Name::Confined(flags) => return cgroup::enter(flags),
        Name::Crash(flags) => return crash::run(flags),
        Name::Churn(flags) => return churn::run(flags),
        Name::Damage(flags) => return damage::run(flags),
        Name::Pods(flags) => return start::run(flags),
        Name::Memory(flags) => return memory::run(flags),
        Name::Metaserver(flags) => return metaserver::run(flags),
        Name::Streams(flags) => return streams::run(flags),
        Name::Replicas(flags) => return streams::replicas::run(flags),
        Name::Poweron(flags) => return poweron::run(flags),
        Name::Informers(flags) => return informers::run(flags),
        Name::Dictionary(flags) => return dictionary::run(flags),
        _ => {}
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if matches!(flags.name, Name::Hollow(_)) {
        // Less priority than what is measured; a courtesy, so a refusal is no error.
        runtime.on_thread_start(|| {
            let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
        });
    }
    let runtime = runtime.enable_all().build()?;
    runtime.block_on(async {
        match flags.name {
            Name::Propagate(common) => propagate::run(&common).await,
            Name::Burst(common) => burst::run(&common).await,
            Name::Reconnect(common) => reconnect::run(&common).await,
            Name::Recovery(flags) => recovery::run(&flags).await,
            Name::Fleet { common, edges, idle } => fleet::run(&common, edges, idle).await,
            Name::Api(flags) => api::run(&flags).await,
            Name::Attack(flags) => attack::run(&flags).await,
            Name::Attacker(flags) => attack::attacker::run(flags).await,
            // They ran above.
            Name::Confined(_)
            | Name::Crash(_)
            | Name::Churn(_)
            | Name::Damage(_)
            | Name::Pods(_)
            | Name::Memory(_)
            | Name::Metaserver(_)
            | Name::Poweron(_)
            | Name::Informers(_)
            | Name::Streams(_)
            | Name::Replicas(_)
            | Name::Dictionary(_) => Ok(()),
            Name::Cuts(flags) => cuts::run(&flags).await,
            Name::Devices(flags) => devices::run(&flags).await,
            Name::Soak(flags) => soak::run(&flags).await,
            Name::Unused(flags) => unused::run(&flags).await,
            Name::Reporter(flags) => reporter::run(flags).await,
            Name::Hollow(flags) => workers::run(flags).await,
        }
    })
}
