//! Hostile peers: CloudCore and EdgeCore may hold 128 MiB each, page cache included, and must live, while an edge that
//! does no harm gets its updates.

pub(crate) mod attacker;
mod bombs;
mod flood;
mod hostile_cloud;
mod makes;
mod mqtt;
mod neighbour;
pub(crate) mod orders;
mod probe;
mod quic;
mod raw;
mod renewals;
mod report;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use harness::ports;
use pki::{DAY, Profile, Usage};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::cgroup::Cgroup;
use crate::edge::Edge;
use crate::ground::Ground;
use crate::result::percentile;
use crate::{Common, hollow, objects};
use flood::Resident;
use orders::{Kind, node_name};
use probe::Probe;
use report::{Report, Row};

#[derive(clap::Args, Clone)]
pub(crate) struct Flags {
    #[command(flatten)]
    common: Common,
    /// Seconds of each attack, and of the calm before each.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// How often all of them are tried; the numbers are medians.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Seconds after the flood of the broker, and after the end of its sessions, before memory is read.
    #[arg(long, default_value_t = 60)]
    later: u64,
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

pub(crate) async fn run(flags: &Flags) -> Result<()> {
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
    let victims = Victims { ground, edge, edge_group, misled: None, misled_group };
    let mut stage = Stage { flags, folder, probe, victims, report: Report::default() };
    Report::head();
    'runs: for run in 0..flags.runs {
        for aim in aims(flags, &stage.victims, &hostile) {
            if stage.attack(&aim, run).await? > 0 {
                println!("a program died of this; the attacks end here");
                break 'runs;
            }
        }
    }
    stage.report.print();
    Ok(())
}

/// Who attacks whom, and what came of it so far.
struct Stage<'a> {
    flags: &'a Flags,
    /// Certificates of the attackers.
    folder: PathBuf,
    probe: Probe,
    victims: Victims,
    report: Report,
}

impl Stage<'_> {
    /// A calm, then an attack. Answers how many programs died of it.
    async fn attack(&mut self, aim: &Aim, run: usize) -> Result<u64> {
        let Flags { common, seconds, later, .. } = self.flags;
        let (victims, seconds) = (&mut self.victims, *seconds);
        // What the attack before left is cleared away.
        tokio::time::sleep(LULL.min(Duration::from_secs(seconds) / 2)).await;
        self.report.calm(self.probe.during(seconds, &victims.ground).await?);
        victims.reset_peaks();
        let resident = Resident::watch(victims.edge.pid()?)?;
        let mut attacker = Attacker::start(aim, &self.folder).await?;
        if aim.kind == Kind::HostileCloud {
            // The one of the run before has the certificates that are made anew.
            victims.misled = None;
            let group = Some(&victims.misled_group);
            victims.misled =
                Some(Edge::start_in(group, common, &victims.ground, "edge-2", &aim.target).await?);
            attacker.line().await.context("waiting for the edge to dial")?;
        }
        let during = self.probe.during(seconds, &victims.ground).await;
        let did = attacker.stop().await?;
        let died = victims.dead()?;
        let mut samples = during.as_ref().map_or_else(|_| Vec::new(), Clone::clone);
        self.report.attack(
            run,
            aim.kind,
            Row {
                opened: did["opened"].as_u64().unwrap_or_default(),
                ended: did["ended"].as_u64().unwrap_or_default(),
                p50: percentile(&mut samples, 50.0),
                p99: percentile(&mut samples, 99.0),
                peak_kb: victims.peak_kb(aim.kind)?,
                died,
            },
        )?;
        if died == 0 {
            during?;
        }
        if aim.kind == Kind::BrokerFlood && run == 0 && died == 0 {
            let later = Duration::from_secs(*later);
            let flood = (aim.target.as_str(), aim.connections);
            resident.note("broker_flood", flood, later, self.report.more()).await?;
        }
        Ok(died)
    }
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
        aim(Kind::Unpack, server.clone(), all / 100),
        aim(Kind::Makes, server, NODES),
        aim(Kind::Registration, registration.clone(), all / 10),
        aim(Kind::Renewals, registration, all / 25),
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
        let mut command = Command::from(crate::cgroup::aside::command()?);
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
