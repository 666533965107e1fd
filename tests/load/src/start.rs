//! How long a pod takes from its making in the API until the API shows it running, against the runtime's own calls for
//! the same pod, in turn; and fifty pods at once.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use harness::wait;
use serde_json::Value;

use crate::pods::{Place, is_ready, raw};
use crate::result::{Results, percentile, rounded};

#[derive(clap::Args, Clone)]
pub(crate) struct Flags {
    /// Folder with the programs to measure.
    #[arg(long)]
    programs: PathBuf,
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Pods made at once, after that.
    #[arg(long, default_value_t = 50)]
    at_once: usize,
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let place = Place::start(&flags.programs)?;
    let logs = place.site.folder().join("raw-logs");
    let (mut own, mut through) = (Vec::new(), Vec::new());
    // The first of each is not counted: caches fill.
    for run in 0..=flags.runs {
        let (raw_ms, pod_ms) = place.runtime.block_on(one(&place, run, &logs))?;
        if run > 0 {
            own.push(raw_ms);
            through.push(pod_ms);
        }
    }
    println!("  {} pods at once", flags.at_once);
    let fifty = place.runtime.block_on(many(&place, flags.at_once))?;
    let (raw_median, pod_median) = (percentile(&mut own, 50.0), percentile(&mut through, 50.0));
    let mut results = Results::default();
    results.add("runs", "pods started each way", flags.runs);
    results.add("cri_ms", "the runtime's calls alone, median (ms)", rounded(raw_median));
    results.add("create_to_running_ms", "made in the API to shown running, median (ms)", rounded(pod_median));
    results.add(
        "create_to_running_p95_ms",
        "the same, 95th percentile",
        rounded(percentile(&mut through, 95.0)),
    );
    results.add("ratio_to_cri", "ratio of the medians", rounded(pod_median / raw_median));
    results.add("at_once", "pods made at once", flags.at_once);
    results.add("fifty_pods_s", "until all of them run (s)", rounded(fifty.as_secs_f64()));
    results.print();
    Ok(())
}

/// One pod each way; milliseconds.
async fn one(place: &Place, run: usize, logs: &std::path::Path) -> Result<(f64, f64)> {
    let began = wait::now();
    let raw = raw::start(&place.cri, &format!("raw-{run}"), logs).await?;
    let own = began.elapsed();
    raw.end(&place.cri).await?;
    let name = format!("pod-{run}");
    let began = wait::now();
    place.api.create(&name, 1).await?;
    place.api.wait(&name, "running", |pod| pod.is_some_and(is_running)).await?;
    let through = began.elapsed();
    place.api.delete(&name).await?;
    place.api.wait(&name, "gone", |pod| pod.is_none()).await?;
    Ok((own.as_secs_f64() * 1000.0, through.as_secs_f64() * 1000.0))
}

fn is_running(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running"
        && pod["status"]["containerStatuses"][0]["state"]["running"].is_object()
}

async fn many(place: &Place, count: usize) -> Result<Duration> {
    let names: Vec<String> = (0..count).map(|number| format!("many-{number}")).collect();
    let began = wait::now();
    futures_util::future::try_join_all(names.iter().map(|name| place.api.create(name, 1))).await?;
    futures_util::future::try_join_all(names.iter().map(|name| place.api.wait(name, "ready", is_ready)))
        .await?;
    let took = began.elapsed();
    place.delete(&names).await?;
    Ok(took)
}
