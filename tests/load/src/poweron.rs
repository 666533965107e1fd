//! Power-on without a link: every process was killed and every container is gone; how often all pods run again, and how
//! much longer that takes than the runtime itself needs for as many pods at once.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use cri::{labels, v1};
use futures_util::future::try_join_all;
use harness::wait;

use crate::pods::{Place, is_ready, raw};
use crate::result::{Results, percentile, rounded};

#[derive(clap::Args, Clone)]
pub(crate) struct Flags {
    /// Folder with the programs to measure.
    #[arg(long)]
    programs: PathBuf,
    #[arg(long, default_value_t = 50)]
    runs: usize,
    #[arg(long, default_value_t = 20)]
    pods: usize,
}

/// How often the runtime's own time is measured.
const OWN_RUNS: usize = 3;
const LOOK: Duration = Duration::from_millis(20);
/// A power-on that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let mut place = Place::start(&flags.programs)?;
    let logs = place.site.folder().join("raw-logs");
    let mut own = Vec::new();
    for run in 0..OWN_RUNS {
        own.push(place.runtime.block_on(by_itself(&place, run, flags.pods, &logs))?);
    }
    let names: Vec<String> = (0..flags.pods).map(|number| format!("pod-{number}")).collect();
    place.runtime.block_on(async {
        try_join_all(names.iter().map(|name| place.api.create(name, 1))).await?;
        try_join_all(names.iter().map(|name| place.api.wait(name, "ready", is_ready))).await
    })?;
    place.site.relay.cut();
    let mut took = Vec::new();
    for run in 0..flags.runs {
        power_off(&mut place)?;
        match power_on(&place, flags.pods)? {
            Some(ms) => took.push(ms),
            None => println!("  run {run}: not all pods run within {PATIENCE:?}"),
        }
    }
    let ok = took.len();
    place.site.relay.heal();
    let converged = place.runtime.block_on(converges(&place, &names));
    let (own_median, median) = (percentile(&mut own, 50.0), percentile(&mut took, 50.0));
    let mut results = Results::default();
    results.add("runs", "power-ons without a link", flags.runs);
    results.add("pods", "pods each time", flags.pods);
    results.add("ok", "after which all pods ran", ok);
    results.add("runtime_ms", "the runtime alone, as many pods at once, median (ms)", rounded(own_median));
    results.add("poweron_ms", "EdgeCore's start until all pods run, median (ms)", rounded(median));
    results.add("poweron_max_ms", "the longest of these", rounded(percentile(&mut took, 100.0)));
    results.add("over_runtime_ms", "more than the runtime alone (ms)", rounded(median - own_median));
    results.add("converged", "statuses right after the link came back", converged.is_ok());
    results.print();
    converged
}

/// The runtime's calls for `count` pods side by side; milliseconds.
async fn by_itself(place: &Place, run: usize, count: usize, logs: &std::path::Path) -> Result<f64> {
    let names: Vec<String> = (0..count).map(|number| format!("raw-{run}-{number}")).collect();
    let began = wait::now();
    let started = try_join_all(names.iter().map(|name| raw::start(&place.cri, name, logs))).await?;
    let took = began.elapsed().as_secs_f64() * 1000.0;
    try_join_all(started.into_iter().map(|raw| raw.end(&place.cri))).await?;
    Ok(took)
}

/// Kills EdgeCore, removes every container and sandbox, kills the runtime and starts it again.
fn power_off(place: &mut Place) -> Result<()> {
    place.site.edge.kill9()?;
    let cri = place.cri.clone();
    place.runtime.block_on(async {
        let sandboxes = cri.list_pod_sandboxes(None).await?;
        let end = |id: String| {
            let cri = cri.clone();
            async move {
                cri.stop_pod_sandbox(&id).await?;
                cri.remove_pod_sandbox(&id).await
            }
        };
        try_join_all(sandboxes.into_iter().map(|sandbox| end(sandbox.id))).await
    })?;
    let containerd = place.site.containerd.as_mut().context("this site has a runtime")?;
    place.runtime.block_on(async {
        containerd.kill9().await?;
        containerd.launch().await
    })
}

/// Milliseconds until the container of every pod runs; none if that takes too long.
fn power_on(place: &Place, count: usize) -> Result<Option<f64>> {
    let began = wait::now();
    place.site.edge.start()?;
    loop {
        let running = place.runtime.block_on(running(&place.cri))?;
        if running.len() == count {
            return Ok(Some(began.elapsed().as_secs_f64() * 1000.0));
        }
        if began.elapsed() > PATIENCE {
            return Ok(None);
        }
        wait::pause(LOOK);
    }
}

/// Pods with a running container.
async fn running(cri: &cri::Runtime) -> Result<BTreeSet<String>> {
    let containers = cri.list_containers(None).await?;
    let up = containers.iter().filter(|item| item.state() == v1::ContainerState::ContainerRunning);
    Ok(up.filter_map(|item| item.labels.get(labels::POD_UID).cloned()).collect())
}

/// With the link back, the API shows the containers that run now, and nobody started anything again.
async fn converges(place: &Place, names: &[String]) -> Result<()> {
    let items = place.cri.list_containers(None).await?;
    let ids: BTreeSet<String> = items.into_iter().map(|item| format!("containerd://{}", item.id)).collect();
    for name in names {
        let shown = |pod: Option<&serde_json::Value>| {
            let id = pod.and_then(|pod| pod["status"]["containerStatuses"][0]["containerID"].as_str());
            is_ready(pod) && id.is_some_and(|id| ids.contains(id))
        };
        place.api.wait(name, "shown as it runs", shown).await?;
    }
    Ok(())
}
