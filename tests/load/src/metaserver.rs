//! MetaServer beside twenty pods and three informers: what it holds, how long its answers take with the link and without, also
//! over a slow one, and whether objects of all sizes come through as they are.

mod callers;
mod informers;
mod sizes;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use api::config::edgecore::EdgeCoreConfig;
use futures_util::future::try_join_all;
use harness::metaserver::MetaServer;
use harness::{memory, wait};

use crate::pods::{Place, is_ready};
use crate::result::Results;
use callers::{Caller, Kind, Load};

#[derive(clap::Args, Clone)]
pub(crate) struct Flags {
    /// Folder with the programs to measure.
    #[arg(long)]
    programs: PathBuf,
    #[arg(long, default_value_t = 20)]
    pods: usize,
    /// How often EdgeCore is started with MetaServer, and without.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of rest before memory is read.
    #[arg(long, default_value_t = 30)]
    rest: u64,
    /// Requests per second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Seconds of each load.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

/// Each way: a link over the sea.
const FAR: Duration = Duration::from_millis(80);
/// Of who reads. It may do everything: what is measured is MetaServer.
const ACCOUNT: &str = "\
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: reader, namespace: default}]
";

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let server = MetaServer::new()?;
    let settings = server.settings();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let place = Place::start_with(&flags.programs, &settings)?;
    place.site.kubectl().apply(ACCOUNT)?;
    let names: Vec<String> = (0..flags.pods).map(|number| format!("pod-{number}")).collect();
    place.runtime.block_on(async {
        try_join_all(names.iter().map(|name| place.api.create(name, 1))).await?;
        try_join_all(names.iter().map(|name| place.api.wait(name, "ready", is_ready))).await
    })?;
    let kubeconfig = server.kubeconfig(&place.site.edge, &place.site.kubectl(), "reader")?;
    let mut results = Results::default();
    results.add("pods", "pods", flags.pods);
    hold(flags, &place, &kubeconfig, &mut results)?;
    answers(flags, &place, &kubeconfig, &mut results)?;
    let (sizes, equal) = place.runtime.block_on(sizes::run(&place.site.cloud.kubeconfig(), &kubeconfig))?;
    results.add("sizes", "objects of 31 to 1,500 KB watched and read at the node", sizes);
    results.add("sizes_equal", "that were as the API server has them, to the byte", equal);
    results.print();
    anyhow::ensure!(sizes == equal, "{} objects are otherwise at the node", sizes - equal);
    Ok(())
}

/// Starts EdgeCore again with MetaServer or without, and waits until all pods are told to be ready.
fn start(flags: &Flags, place: &Place, enable: bool) -> Result<i32> {
    let edge = &place.site.edge;
    let path = edge.root.join("etc/kubeedge/config/edgecore.yaml");
    let (mut config, _): (EdgeCoreConfig, _) = daemon::config::load(&path)?;
    config.modules.meta_manager.meta_server.enable = enable;
    std::fs::write(&path, daemon::config::to_yaml(&config).map_err(anyhow::Error::msg)?)?;
    edge.kill9()?;
    edge.start()?;
    let name = |at: usize| format!("pod-{at}");
    place.runtime.block_on(async {
        for at in 0..flags.pods {
            place.api.wait(&name(at), "ready", is_ready).await?;
        }
        anyhow::Ok(())
    })?;
    edge.pid()
}

/// Memory with MetaServer and its informers, and without either.
fn hold(flags: &Flags, place: &Place, kubeconfig: &Path, results: &mut Results) -> Result<()> {
    let rest = Duration::from_secs(flags.rest);
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for round in 0..flags.rounds {
        println!("  memory, round {}", round + 1);
        let pid = start(flags, place, false)?;
        wait::pause(rest);
        off.push(memory::median_kb(pid)?);
        let pid = start(flags, place, true)?;
        let informers = place.runtime.block_on(informers::start(kubeconfig, flags.pods))?;
        wait::pause(rest);
        on.push(memory::median_kb(pid)?);
        drop(informers);
    }
    let median = |samples: &mut Vec<u64>| -> Result<u64> {
        samples.sort_unstable();
        samples.get(samples.len() / 2).copied().context("no round was measured")
    };
    let (off, on) = (median(&mut off)?, median(&mut on)?);
    results.add("rss_off_kb", "EdgeCore resident without MetaServer (KiB)", off);
    results.add("rss_on_kb", "with MetaServer and three informers (KiB)", on);
    results.add("rss_more_kb", "more (KiB)", i64::try_from(on)? - i64::try_from(off)?);
    Ok(())
}

/// How long get and list take: of the newest state near the cloud and cut off; of any state far away from it and cut off.
fn answers(flags: &Flags, place: &Place, kubeconfig: &Path, results: &mut Results) -> Result<()> {
    let load = Load { rate: flags.rate, time: Duration::from_secs(flags.seconds.into()) };
    let _informers = place.runtime.block_on(informers::start(kubeconfig, flags.pods))?;
    let measure = |state: &str| {
        let caller = Caller::new(kubeconfig, state);
        place.runtime.block_on(async { caller.await?.run(&load).await })
    };
    let link = |is_cut: bool, delay: Duration| -> Result<()> {
        place.site.relay.cut();
        if !is_cut {
            place.site.relay.delay(delay);
            place.site.relay.heal();
        }
        place.runtime.block_on(informers::is_linked(kubeconfig, !is_cut))
    };

    println!("  get and list of the newest state");
    let near = measure("")?;
    link(true, Duration::ZERO)?;
    let cut = measure("")?;
    for (kind, key, what) in [(Kind::Get, "get", "get"), (Kind::List, "list", "list of the pods")] {
        let (near, cut) = (near.percentile(kind, 99.0), cut.percentile(kind, 99.0));
        results.add(&format!("{key}_p99_ms"), &format!("{what}, connected, p99 (ms)"), near.clone());
        results.add(&format!("{key}_cut_p99_ms"), &format!("{what}, cut off, p99 (ms)"), cut.clone());
        let ratio = cut.as_f64().unwrap_or(f64::NAN) / near.as_f64().unwrap_or(f64::NAN);
        results.add(&format!("{key}_ratio"), "cut off to connected", crate::result::rounded(ratio));
    }
    let failed = near.failed + cut.failed;

    println!("  get and list of any state, {} ms from the cloud", FAR.as_millis());
    link(false, FAR)?;
    let far = measure("?resourceVersion=0")?;
    link(true, FAR)?;
    let cut = measure("?resourceVersion=0")?;
    link(false, Duration::ZERO)?;
    results.add("rate", "requests per second", flags.rate);
    for (told, key, what) in [(&far, "far", "80 ms from the cloud"), (&cut, "far_cut", "cut off")] {
        results.add(
            &format!("{key}_mean_ms"),
            &format!("get and list of any state, {what}, mean (ms)"),
            told.mean(),
        );
        results.add(&format!("{key}_p99_ms"), "the same, p99 (ms)", told.percentile_of_all(99.0));
    }
    results.add("failed", "requests that failed", failed + far.failed + cut.failed);
    Ok(())
}
