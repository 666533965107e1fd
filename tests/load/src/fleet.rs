//! Thousands of hollow edges: what one costs CloudCore, what a restart of CloudCore costs all of them, and what a
//! bystander feels of the others: of storms, of a busy edge, of edges that do not keep up.

mod busy;
mod bystander;
mod slow;

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::ground::{Ground, cpu_ms};
use crate::result::{Results, rounded};
use crate::workers::{config_map, node_name};
use crate::{Common, objects};
use bystander::Bystander;

/// Edges of one process: open files are limited.
const PER_WORKER: usize = 2500;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often workers are asked.
const ASK: Duration = Duration::from_millis(200);

struct Worker {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

pub(crate) async fn run(common: &Common, edges: usize, idle: u64) -> Result<()> {
    let mut ground = Ground::start(common, edges + 1).await?;
    let mut results = Results::default();
    println!("creating the objects of {edges} nodes");
    let names: Vec<String> = (0..edges).map(config_map).collect();
    let mut wanted = Vec::with_capacity(edges * 3);
    for number in 0..edges {
        let (name, node) = (config_map(number), node_name(number));
        wanted.push(objects::node(&node));
        wanted.push(objects::config_map(&name, "first"));
        wanted.push(objects::pod(&name, &node, std::slice::from_ref(&name)));
    }
    objects::ensure_all(&ground.cluster, wanted).await?;
    let bystander = Bystander::start(common, &ground).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = harness::memory::resident_kb(ground.cloud_pid()?)?;

    println!("connecting");
    let began = harness::wait::now();
    // In memory: ten thousand keys are written and read once.
    let keys = tempfile::Builder::new().prefix("causeway-load-").tempdir_in("/dev/shm")?;
    let mut workers = start_workers(common, &ground, edges, &keys).await?;
    wait_text(&mut workers, "first", edges, began).await?;
    results.add(
        "connect_s",
        "first dial -> all hold their objects (s)",
        rounded(began.elapsed().as_secs_f64()),
    );

    println!("idling for {idle} s");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let cpu = cpu_ms(ground.cloud_pid()?)?;
    tokio::time::sleep(Duration::from_secs(idle)).await;
    let used = cpu_ms(ground.cloud_pid()?)? - cpu;
    let resident = harness::memory::resident_kb(ground.cloud_pid()?)?;
    let per_edge = resident.saturating_sub(before) as f64 / edges as f64;
    results.add("cloudcore_kb_per_edge", "resident memory of CloudCore per edge (KiB)", rounded(per_edge));
    results.add("cloudcore_kb", "resident memory of CloudCore (KiB)", resident);
    results.add("idle_cpu_pct", "CPU of CloudCore, idle (% of a core)", rounded(used / (idle as f64 * 10.0)));

    println!("one update each");
    let began = harness::wait::now();
    objects::patch_all(&ground.cluster, &names, "second").await?;
    let api = began.elapsed().as_secs_f64();
    wait_text(&mut workers, "second", edges, began).await?;
    results.add("update_api_s", "one update each: the API server's time (s)", rounded(api));
    results.add("update_s", "one update each: all committed (s)", rounded(began.elapsed().as_secs_f64()));

    println!("CloudCore is killed, every config map changes, CloudCore starts");
    let back = bystander.back();
    ground.kill_cloud()?;
    objects::patch_all(&ground.cluster, &names, "third").await?;
    let began = harness::wait::now();
    ground.start_cloud().await?;
    results.add("serving_s", "CloudCore started -> serves edges (s)", rounded(began.elapsed().as_secs_f64()));
    back.await??;
    results.add(
        "bystander_back_s",
        "CloudCore started -> the bystander is connected (s)",
        rounded(began.elapsed().as_secs_f64()),
    );
    let samples = bystander.watch();
    wait_text(&mut workers, "third", edges, began).await?;
    results.add(
        "resync_s",
        "CloudCore started -> every edge in sync (s)",
        rounded(began.elapsed().as_secs_f64()),
    );
    let storm = samples.finish().await?;
    results.add("bystander_p99_ms", "a bystander's update meanwhile, p99 (ms)", rounded(storm.p99));
    results.add("bystander_p50_ms", "a bystander's update meanwhile, median (ms)", rounded(storm.p50));
    results.add("bystander_samples", "updates of the bystander", storm.count);

    println!("a fifth of the edges flaps");
    let began = harness::wait::now();
    let samples = bystander.watch();
    ask_all(&mut workers, "flap 20").await?;
    wait_connected(&mut workers, edges, began).await?;
    results.add(
        "flap_s",
        "20 % of the edges restart: all connected (s)",
        rounded(began.elapsed().as_secs_f64()),
    );
    let flap = samples.finish().await?;
    results.add("flap_bystander_p99_ms", "a bystander's update meanwhile, p99 (ms)", rounded(flap.p99));
    busy::run(&ground, &mut workers, &bystander, &mut results).await?;
    if common.quic {
        // Throttles hold back TCP.
        println!("slow consumers are measured over WebSocket only");
    } else {
        let least = Duration::from_secs(idle);
        slow::run(&ground, &mut workers, &bystander, edges, least, &mut results).await?;
    }
    results.add("edges", "edges", edges);
    results.print();
    Ok(())
}

/// `keys` is where certificates and keys live while the edges do.
async fn start_workers(
    common: &Common,
    ground: &Ground,
    edges: usize,
    keys: &TempDir,
) -> Result<Vec<Worker>> {
    let folder = keys.path();
    let authority = ground.authority().await?;
    let ca = pki::Identity::from_der(authority.certificate(), authority.key_sec1())?;
    pki::files::write_identity(&folder.join("ca.crt"), &folder.join("ca.key"), &ca)?;
    let mut workers = Vec::new();
    for first in (0..edges).step_by(PER_WORKER) {
        let server = if common.quic { ground.quic_server() } else { ground.server() };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("hollow").arg("--folder").arg(folder).arg("--server").arg(server);
        command.arg("--first").arg(first.to_string());
        command.arg("--count").arg((edges - first).min(PER_WORKER).to_string());
        command.arg("--dialect").arg(&common.dialect);
        if common.quic {
            command.arg("--quic");
        }
        let log = std::fs::File::create(ground.scratch.path().join(format!("hollow-{first}.log")))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().context("starting hollow edges")?;
        let input = child.stdin.take().context("stdin")?;
        let output = BufReader::new(child.stdout.take().context("stdout")?).lines();
        workers.push(Worker { _child: child, input, output });
    }
    for worker in &mut workers {
        worker.answer().await?;
    }
    Ok(workers)
}

impl Worker {
    /// The next line of JSON; logs in between are skipped.
    async fn answer(&mut self) -> Result<Value> {
        loop {
            let line = self.output.next_line().await?.context("hollow edges ended")?;
            if let Ok(value @ Value::Object(_)) = serde_json::from_str(&line) {
                return Ok(value);
            }
        }
    }

    async fn ask(&mut self, command: &str) -> Result<Value> {
        self.input.write_all(format!("{command}\n").as_bytes()).await?;
        self.answer().await
    }
}

async fn ask_all(workers: &mut [Worker], command: &str) -> Result<Vec<Value>> {
    let mut answers = Vec::new();
    for worker in workers {
        answers.push(worker.ask(command).await?);
    }
    Ok(answers)
}

fn sum(answers: &[Value], key: &str) -> usize {
    answers.iter().filter_map(|answer| answer[key].as_u64()).sum::<u64>() as usize
}

async fn wait_text(workers: &mut [Worker], text: &str, edges: usize, began: Instant) -> Result<()> {
    wait(workers, &format!("text {text}"), "count", edges, began).await
}

async fn wait_connected(workers: &mut [Worker], edges: usize, began: Instant) -> Result<()> {
    wait(workers, "status", "connected", edges, began).await
}

async fn wait(workers: &mut [Worker], command: &str, key: &str, edges: usize, began: Instant) -> Result<()> {
    loop {
        let reached = sum(&ask_all(workers, command).await?, key);
        if reached >= edges {
            return Ok(());
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "{command}: only {reached} of {edges} edges");
        tokio::time::sleep(ASK).await;
    }
}
