//! A tenth of the edges does not keep up: half of them read a record each 100 ms, half nothing. The others get their
//! updates as if nothing were, CloudCore's memory stays bounded, and the slow ones catch up once they read again.

use std::time::Duration;

use anyhow::Result;
use rand::RngExt;
use rand::distr::Alphanumeric;
use serde_json::Value;

use super::bystander::Bystander;
use super::{Worker, ask_all, sum, wait, wait_connected, wait_text};
use crate::ground::Ground;
use crate::latency::Latency;
use crate::objects;
use crate::result::{Results, rounded};
use crate::workers::config_map;

/// Share of the edges that do not keep up.
const PERCENT: usize = 10;
/// Updates of every edge's config map, at least.
const ROUNDS: usize = 5;
/// Bytes of each: what a slow edge has not read is more than sockets hold.
const BYTES: usize = 16 * 1024;
/// Time in which an edge notices that it was started anew.
const SETTLE: Duration = Duration::from_millis(500);

/// What happened while every config map changed again and again.
struct Storm {
    /// Text of the last round.
    last: String,
    /// From the API server's last answer until every free edge had it, longest round (s).
    longest: f64,
    /// Resident memory of CloudCore, most (KiB).
    memory: u64,
    bystander: Latency,
}

/// `least`: time the edges do not keep up, and time after the storm before it.
pub(super) async fn run(
    ground: &Ground,
    workers: &mut [Worker],
    bystander: &Bystander,
    edges: usize,
    least: Duration,
    results: &mut Results,
) -> Result<()> {
    println!("{PERCENT} % of the edges do not keep up; first the same while they do");
    let throttled = sum(&ask_all(workers, &format!("throttle {PERCENT}")).await?, "throttled");
    tokio::time::sleep(SETTLE).await;
    wait_connected(workers, edges, harness::wait::now()).await?;
    let free = edges - throttled;
    let calm = storm("calm", ground, workers, bystander, (edges, free), Duration::ZERO).await?;
    wait_text(workers, &calm.last, edges, harness::wait::now()).await?;
    println!("idling for {} s", least.as_secs());
    tokio::time::sleep(least).await;
    let later = harness::memory::resident_kb(ground.cloud_pid()?)?;

    ask_all(workers, "pace slow").await?;
    let slow = storm("slow", ground, workers, bystander, (edges, free), least).await?;
    let late = edges - sum(&ask_all(workers, &format!("text {}", slow.last)).await?, "count");
    let began = harness::wait::now();
    ask_all(workers, "pace open").await?;
    wait_text(workers, &slow.last, edges, began).await?;
    let caught_up = began.elapsed().as_secs_f64();

    results.add(
        "calm_later_cloudcore_kb",
        "while all keep up: memory of CloudCore, an idle time later (KiB)",
        later,
    );
    results.add("slow_edges", "edges that do not keep up", throttled);
    results.add("slow_behind", "of them behind when the others were done", late);
    for (key, when, storm) in [("calm", "while all keep up", &calm), ("slow", "while some do not", &slow)] {
        let mut add = |name: &str, what: &str, value: Value| {
            results.add(&format!("{key}_{name}"), &format!("{when}: {what}"), value);
        };
        add("others_s", "API server -> others, longest (s)", rounded(storm.longest));
        add("cloudcore_kb", "memory of CloudCore, most (KiB)", storm.memory.into());
        add("bystander_p99_ms", "a bystander's update, p99 (ms)", rounded(storm.bystander.p99));
        add("bystander_p50_ms", "a bystander's update, median (ms)", rounded(storm.bystander.p50));
    }
    results.add("slow_catch_up_s", "they read again -> every edge in sync (s)", rounded(caught_up));
    Ok(())
}

async fn storm(
    name: &str,
    ground: &Ground,
    workers: &mut [Worker],
    bystander: &Bystander,
    (edges, free): (usize, usize),
    least: Duration,
) -> Result<Storm> {
    let names: Vec<String> = (0..edges).map(config_map).collect();
    let (start, samples) = (harness::wait::now(), bystander.watch());
    let (mut longest, mut memory, mut last) = (0.0_f64, 0, String::new());
    for round in 0.. {
        if round >= ROUNDS && start.elapsed() >= least {
            break;
        }
        last = format!("{name}-{round}");
        objects::patch_all(&ground.cluster, &names, &text(&last)).await?;
        let answered = harness::wait::now();
        wait(workers, &format!("text {last}"), "free", free, answered).await?;
        longest = longest.max(answered.elapsed().as_secs_f64());
        memory = memory.max(harness::memory::resident_kb(ground.cloud_pid()?)?);
    }
    Ok(Storm { last, longest, memory, bystander: samples.finish().await? })
}

/// The word edges are asked for, then noise: what repeats would be packed small.
fn text(word: &str) -> String {
    let noise = rand::rng().sample_iter(Alphanumeric).take(BYTES).map(char::from);
    format!("{word} {}", noise.collect::<String>())
}
