//! CloudCore beside config maps and secrets that hardly any edge uses: what it holds, and what it asks for.

use std::time::Duration;

use anyhow::Result;
use harness::memory;
use serde_json::{Value, json};

use crate::ground::Ground;
use crate::result::{Results, rounded};
use crate::{Common, objects};

#[derive(clap::Args, Clone)]
pub(crate) struct Flags {
    #[command(flatten)]
    common: Common,
    /// Config maps and secrets of the cluster, half of each.
    #[arg(long, default_value_t = 20_000)]
    objects: usize,
    /// Bytes of text in each.
    #[arg(long, default_value_t = 4096)]
    bytes: usize,
    /// Config maps that pods refer to, each on a node of its own.
    #[arg(long, default_value_t = 200)]
    used: usize,
    /// Seconds before memory is read.
    #[arg(long, default_value_t = 20)]
    rest: u64,
}

pub(crate) async fn run(flags: &Flags) -> Result<()> {
    let mut ground = Ground::start(&flags.common, flags.used).await?;
    let rest = Duration::from_secs(flags.rest);
    let mut results = Results::default();
    results.add("empty_kb", "CloudCore of an empty cluster (KiB)", resident(&ground, rest).await?);
    println!("creating {} objects", flags.objects);
    let text = text(flags.bytes);
    let mut wanted = Vec::with_capacity(flags.objects);
    for number in 0..flags.objects / 2 {
        wanted.push(objects::config_map(&name(number), &text));
        wanted.push(secret(&name(number), &text));
    }
    objects::ensure_all(&ground.cluster, wanted).await?;
    let mut wanted = Vec::with_capacity(flags.used * 2);
    for number in 0..flags.used {
        let node = format!("node-{number}");
        wanted.push(objects::node(&node));
        wanted.push(objects::pod(&name(number), &node, &[name(number)]));
    }
    objects::ensure_all(&ground.cluster, wanted).await?;
    results.add("watched_kb", "CloudCore that saw them come (KiB)", resident(&ground, rest).await?);

    println!("restarting CloudCore");
    ground.kill_cloud()?;
    let began = harness::wait::now();
    ground.start_cloud().await?;
    results.add("start_s", "its restart beside them (s)", rounded(began.elapsed().as_secs_f64()));
    results.add("cloudcore_kb", "CloudCore after the restart (KiB)", resident(&ground, rest).await?);
    let peak = memory::peak_kb(ground.cloud_pid()?)?;
    results.add("peak_kb", "its peak since (KiB)", peak);
    results.print();
    Ok(())
}

fn name(number: usize) -> String {
    format!("object-{number}")
}

/// So many bytes that differ from place to place.
fn text(bytes: usize) -> String {
    let words = (0..).map(|number: u64| format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    words.take(bytes.div_ceil(16)).collect::<String>()[..bytes].to_owned()
}

fn secret(name: &str, text: &str) -> (String, Value) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"},
        "stringData": {"text": text}});
    ("/api/v1/namespaces/default/secrets".to_owned(), secret)
}

async fn resident(ground: &Ground, rest: Duration) -> Result<u64> {
    tokio::time::sleep(rest).await;
    memory::median_kb(ground.cloud_pid()?)
}
