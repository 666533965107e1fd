//! Hostile peers: CloudCore and EdgeCore may hold 128 MiB each, page cache included, and must live, while an edge that
//! does no harm gets its updates.

mod aside;
pub mod attacker;
mod bombs;
pub mod cgroup;
mod flood;
mod hostile_cloud;
mod mqtt;
mod neighbour;
mod probe;
mod quic;
mod raw;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use harness::ports;
use pki::{DAY, Profile, Usage};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::edge::Edge;
use crate::ground::Ground;
use crate::result::{Results, percentile, rounded};
use crate::{Common, hollow, objects};
use attacker::{Kind, node_name};
use cgroup::Cgroup;
use flood::Resident;
use probe::Probe;

#[derive(clap::Args, Clone)]
pub struct Flags {
    #[command(flatten)]
    common: Common,
    /// Seconds of each attack, and of the calm before each.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Only these attacks.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Half-open connections; the other attacks take shares of it.
    #[arg(long, default_value_t = 5000)]
    connections: usize,
}

/// What either program may hold, in bytes.
const LIMIT: u64 = 128 * 1024 * 1024;
/// Longest time between the end of an attack and the calm before the next: half the attack's.
const LULL: Duration = Duration::from_secs(3);
/// Longest wait for what an attacker has to say, such as that an edge dialled.
const PATIENCE: Duration = Duration::from_secs(60);
/// Nodes whose certificates the attackers have.
const NODES: usize = 10;

/// Who is attacked, and where.
struct Aim {
    kind: Kind,
    target: String,
    connections: usize,
}

/// The programs under attack.
struct Victims {
    ground: Ground,
    edge: Edge,
    edge_group: Cgroup,
    /// Its cloud is hostile; started when that cloud's turn comes.
    misled: Option<Edge>,
    misled_group: Cgroup,
}

pub async fn run(flags: &Flags) -> Result<()> {
    let common = &flags.common;
    let ground = Ground::start_in(Cgroup::make("cloudcore", LIMIT)?, common, NODES + 2).await?;
    let names = vec![probe::NAME.to_owned()];
    let mut wanted = vec![objects::node("edge-1"), objects::config_map(probe::NAME, "0")];
    wanted.push(objects::pod("reader", "edge-1", &names));
    objects::ensure_all(&ground.cluster, wanted).await?;
    let folder = ground.scratch.path().join("evil");
    arm(&ground, &folder).await?;
    let hostile = format!("127.0.0.1:{}", ports::free()?);
    let (edge_group, misled_group) =
        (Cgroup::make("edgecore", LIMIT)?, Cgroup::make("misled", LIMIT)?.aside());
    let edge = Edge::start_in(Some(&edge_group), common, &ground, "edge-1", &ground.server()).await?;
    let probe = Probe::start(&edge).await?;
    let mut victims = Victims { ground, edge, edge_group, misled: None, misled_group };

    println!(
        "{:<16} {:>8} {:>8} {:>9} {:>9} {:>11} {:>11}",
        "", "opened", "ended", "p50 ms", "p99 ms", "peak MiB", "killed"
    );
    let mut results = Results::default();
    let (mut calm, mut calmest, mut least_calm) = (Vec::new(), f64::INFINITY, 0.0_f64);
    let (mut worst, mut neighbour, mut killed) = (0.0_f64, f64::NAN, 0);
    for aim in aims(flags, &victims, &hostile) {
        // What the attack before left is cleared away.
        tokio::time::sleep(LULL.min(Duration::from_secs(flags.seconds) / 2)).await;
        let mut before = probe.during(flags.seconds, &victims.ground).await?;
        let p99 = percentile(&mut before, 99.0);
        (calmest, least_calm) = (calmest.min(p99), least_calm.max(p99));
        calm.append(&mut before);
        victims.reset_peaks();
        let resident = Resident::watch(victims.edge.pid()?)?;
        let mut attacker = Attacker::start(&aim, &folder).await?;
        if aim.kind == Kind::HostileCloud {
            let group = Some(&victims.misled_group);
            victims.misled = Some(Edge::start_in(group, common, &victims.ground, "edge-2", &hostile).await?);
            attacker.line().await.context("waiting for the edge to dial")?;
        }
        let during = probe.during(flags.seconds, &victims.ground).await;
        let did = attacker.stop().await?;
        let dead = victims.dead()?;
        killed += dead;
        let name = aim.kind.to_possible_value().context("a name")?.get_name().replace('-', "_");
        let peak = victims.peak_kb(aim.kind)?;
        let mut samples = during.as_ref().map_or_else(|_| Vec::new(), Clone::clone);
        let (p50, p99) = (percentile(&mut samples, 50.0), percentile(&mut samples, 99.0));
        println!(
            "{name:<16} {:>8} {:>8} {p50:>9.2} {p99:>9.2} {:>11.1} {dead:>11}",
            did["opened"],
            did["ended"],
            peak as f64 / 1024.0
        );
        results.add(&format!("{name}_opened"), &format!("{name}: connections made"), did["opened"].clone());
        results.add(&format!("{name}_p99_ms"), &format!("{name}: an update, p99 (ms)"), rounded(p99));
        results.add(&format!("{name}_peak_kb"), &format!("{name}: most memory of the attacked (KiB)"), peak);
        if dead > 0 {
            println!("a program died of this; the attacks end here");
            break;
        }
        during?;
        if aim.kind == Kind::BrokerFlood {
            resident.note(&name, (&aim.target, aim.connections), &mut results).await?;
        }
        match aim.kind {
            Kind::Neighbour => neighbour = p99,
            _ => worst = worst.max(p99),
        }
    }
    let calm_p99 = percentile(&mut calm, 99.0);
    results.add(
        "calm_p50_ms",
        "an update in all the calm before, p50 (ms)",
        rounded(percentile(&mut calm, 50.0)),
    );
    results.add("calm_p99_ms", "the same, p99 (ms)", rounded(calm_p99));
    results.add("calmest_p99_ms", "p99 of the best of these calms (ms)", rounded(calmest));
    results.add("least_calm_p99_ms", "p99 of the worst, with nobody attacking (ms)", rounded(least_calm));
    results.add("killed", "programs that died", killed);
    results.add("p99_ratio", "worst p99 during an attack : p99 in the calm", rounded(worst / calm_p99));
    if neighbour.is_finite() {
        let ratio = rounded(worst / neighbour);
        results.add("neighbour_ratio", "worst p99 : p99 beside a busy neighbour", ratio);
    }
    results.print();
    Ok(())
}

fn aims(flags: &Flags, victims: &Victims, hostile: &str) -> Vec<Aim> {
    let aim =
        |kind, target: String, connections: usize| Aim { kind, target, connections: connections.max(1) };
    let (server, quic, all) = (victims.ground.server(), victims.ground.quic_server(), flags.connections);
    let registration = format!("127.0.0.1:{}", victims.ground.cert_port);
    let mqtt = format!("127.0.0.1:{}", victims.edge.mqtt_port);
    let mappers = victims.edge.dmi_socket.to_string_lossy().into_owned();
    let aims = vec![
        aim(Kind::Neighbour, String::from("itself"), all / 50),
        aim(Kind::HalfOpen, server.clone(), all),
        aim(Kind::SlowUpgrade, server.clone(), all / 10),
        aim(Kind::Lengths, server.clone(), all / 50),
        aim(Kind::Deep, server.clone(), all / 100),
        aim(Kind::Unpack, server, all / 100),
        aim(Kind::Registration, registration, all / 10),
        aim(Kind::Quic, quic, all / 25),
        aim(Kind::BrokerFlood, mqtt.clone(), all / 10),
        aim(Kind::Mqtt, mqtt, all / 10),
        aim(Kind::SilentMappers, mappers.clone(), all / 10),
        aim(Kind::Mappers, mappers, all / 10),
        aim(Kind::HostileCloud, hostile.to_owned(), 1),
    ];
    let wanted = |aim: &Aim| flags.only.is_empty() || flags.only.contains(&aim.kind);
    aims.into_iter().filter(wanted).collect()
}

/// Certificates of nodes that were enrolled and turned, and of a cloud that was.
async fn arm(ground: &Ground, folder: &Path) -> Result<()> {
    let authority = ground.authority().await?;
    for number in 0..NODES {
        hollow::write_identity(&authority, &folder.join(node_name(number)), &node_name(number))?;
    }
    let profile = Profile {
        common_name: "cloud".to_owned(),
        organizations: Vec::new(),
        names: vec!["127.0.0.1".to_owned()],
        usage: Usage::Server,
        lifetime: DAY,
    };
    let identity = authority.issue(&profile, daemon::clock::unix_seconds())?;
    pki::files::write_ca(&folder.join("ca.crt"), authority.certificate())?;
    pki::files::write_identity(&folder.join("edge.crt"), &folder.join("edge.key"), &identity)?;
    Ok(())
}

impl Victims {
    fn reset_peaks(&self) {
        let groups = [self.ground.group().ok(), Some(&self.edge_group), Some(&self.misled_group)];
        groups.into_iter().flatten().for_each(Cgroup::reset_peak);
    }

    /// Of the program that `kind` attacks.
    fn peak_kb(&self, kind: Kind) -> Result<u64> {
        match kind {
            Kind::BrokerFlood | Kind::Mqtt | Kind::SilentMappers | Kind::Mappers => self.edge_group.peak_kb(),
            Kind::HostileCloud => self.misled_group.peak_kb(),
            _ => self.ground.group()?.peak_kb(),
        }
    }

    /// Programs that have ended, or were killed for want of memory.
    fn dead(&mut self) -> Result<u64> {
        let cloud = self.ground.cloud.as_mut().context("CloudCore")?;
        let misled = self.misled.as_mut().map(|edge| &mut edge.process);
        let programs = [Some(cloud), Some(&mut self.edge.process), misled];
        let ended: Vec<Result<()>> = programs.into_iter().flatten().map(|program| program.check()).collect();
        for error in ended.iter().filter_map(|ended| ended.as_ref().err()) {
            println!("{error:#}");
        }
        let ended = ended.iter().filter(|ended| ended.is_err()).count() as u64;
        let killed =
            self.ground.group()?.killed()? + self.edge_group.killed()? + self.misled_group.killed()?;
        Ok(ended.max(killed))
    }
}

/// A process that attacks until told to stop.
struct Attacker {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Attacker {
    async fn start(aim: &Aim, folder: &Path) -> Result<Attacker> {
        let mut command = Command::from(aside::command()?);
        command.arg(std::env::current_exe()?);
        let kind = aim.kind.to_possible_value().context("a name")?;
        command.args(["attacker", kind.get_name(), "--target", &aim.target, "--folder"]).arg(folder);
        command.args(["--nodes", &NODES.to_string(), "--connections", &aim.connections.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().context("starting an attacker")?;
        let output = BufReader::new(process.stdout.take().context("stdout")?).lines();
        let mut attacker = Attacker { process, output };
        attacker.line().await?;
        Ok(attacker)
    }

    async fn stop(&mut self) -> Result<serde_json::Value> {
        drop(self.process.stdin.take());
        let did = self.line().await?;
        self.process.kill().await?;
        Ok(did)
    }

    async fn line(&mut self) -> Result<serde_json::Value> {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await;
        let line = line.context("the attacker says nothing")??.context("the attacker ended")?;
        Ok(serde_json::from_str(&line)?)
    }
}
