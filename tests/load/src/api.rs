//! An API server under load: objects made, changed, read, listed and watched, the same for the embedded one and any cluster.

mod clients;
mod watchers;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use serde_json::json;

use crate::ground::Api;
use crate::result::{Results, percentile, rounded};
use clients::{Client, NAMESPACE, path};

#[derive(Args)]
pub(crate) struct Flags {
    /// Folder with the programs to measure.
    #[arg(long)]
    programs: PathBuf,
    /// Use this cluster instead of an API server of our own.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Processes of that cluster whose memory counts (repeatable): the API server's and its database's.
    #[arg(long = "pid")]
    pids: Vec<i32>,
    /// The folder of that cluster's database.
    #[arg(long)]
    data: Option<PathBuf>,
    #[arg(long, default_value_t = 10_000)]
    objects: usize,
    #[arg(long, default_value_t = 16)]
    workers: usize,
    #[arg(long, default_value_t = 100)]
    watchers: usize,
    #[arg(long, default_value_t = 200)]
    changes: usize,
}

/// What is measured, and what of it.
struct Subject {
    kubeconfig: PathBuf,
    pids: Vec<i32>,
    data: Option<PathBuf>,
}

const LISTS: usize = 5;
const LABEL_LISTS: usize = 40;
const PAGE: usize = 500;
/// Writers at once, and what each changes.
const CROWD: usize = 100;
const CHANGES_OF_ONE: usize = 20;
/// After this long without requests, memory should be given back.
const REST: Duration = Duration::from_secs(20);

pub(crate) async fn run(flags: &Flags) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("causeway-api-").tempdir()?;
    let (_api, subject) = match &flags.kubeconfig {
        Some(given) => {
            let (pids, data) = (flags.pids.clone(), flags.data.clone());
            (None, Subject { kubeconfig: given.clone(), pids, data })
        }
        None => {
            let api = Api::start(&flags.programs, scratch.path()).await?;
            let (kubeconfig, pids) = (api.kubeconfig.clone(), vec![api.pid()?]);
            (Some(api), Subject { kubeconfig, pids, data: Some(scratch.path().join("api")) })
        }
    };
    let admin = async || Client::connect(&subject.kubeconfig).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    admin()
        .await?
        .post("/api/v1/namespaces", namespace.to_string().into())
        .await
        .context("making the namespace")?;
    let mut results = Results::default();
    let measured = measure(flags, &subject, &mut results).await;
    // Servers close what says nothing for a minute.
    admin().await?.delete(&format!("/api/v1/namespaces/{NAMESPACE}")).await?;
    measured?;
    results.print();
    Ok(())
}

async fn measure(flags: &Flags, subject: &Subject, results: &mut Results) -> Result<()> {
    let clients = Client::many(&subject.kubeconfig, flags.workers).await?;
    let idle = memory(&subject.pids)?;
    let count = flags.objects;
    let bodies =
        |round| -> Arc<Vec<Bytes>> { Arc::new((0..count).map(|at| clients::body(at, round)).collect()) };
    let made = bodies(0);
    let create = per_second(&clients, count, move |client, at| {
        let body = made[at].clone();
        async move { client.post(&path(""), body).await.map(drop) }
    });
    results.add("create_per_s", "objects of 2 KB made per second", rounded(create.await?));
    let changed = bodies(1);
    let update = per_second(&clients, count, move |client, at| {
        let body = changed[at].clone();
        async move { client.put(&path(&format!("o-{at}")), body).await.map(drop) }
    });
    results.add("update_per_s", "objects replaced per second", rounded(update.await?));
    let get = per_second(&clients, count, |client, at| async move {
        client.get(&path(&format!("o-{at}"))).await.map(drop)
    });
    results.add("get_per_s", "objects read per second", rounded(get.await?));
    lists(flags, &clients[0], results).await?;
    let mut samples = watchers::fan_out(&subject.kubeconfig, flags.watchers, flags.changes).await?;
    let mut bare = wire::fan_out(flags.watchers, flags.changes).await?;
    let measured = [
        ("fanout_p50_ms", "a change to a watcher, median, ms", percentile(&mut samples, 50.0)),
        ("fanout_p99_ms", "a change to a watcher, 99 of 100, ms", percentile(&mut samples, 99.0)),
        ("wire_p50_ms", "of these: their connections alone, median, ms", percentile(&mut bare, 50.0)),
        ("wire_p99_ms", "of these: their connections alone, 99 of 100, ms", percentile(&mut bare, 99.0)),
    ];
    for (key, what, value) in measured {
        results.add(key, what, rounded(value));
    }
    let failed = crowd(&subject.kubeconfig).await?;
    results.add("crowd_failed", "failed writes of a hundred writers at once", failed);
    if !subject.pids.is_empty() {
        let after = memory(&subject.pids)?;
        tokio::time::sleep(REST).await;
        let rested = memory(&subject.pids)?;
        results.add("idle_mb", "resident memory before, MB", rounded(idle));
        results.add("rss_mb", "resident memory after, MB", rounded(after));
        results.add("rested_mb", "the same after a rest, MB", rounded(rested));
    }
    if let Some(data) = &subject.data {
        results.add("db_mb", "files of the database, MB", rounded(size(data)? / 1e6));
    }
    Ok(())
}

async fn lists(flags: &Flags, client: &Client, results: &mut Results) -> Result<()> {
    let timed = |path: String, times: usize, items: usize| async move {
        let mut samples = Vec::new();
        for _ in 0..times {
            let began = harness::wait::now();
            let body = client.get(&path).await?;
            samples.push(began.elapsed().as_secs_f64() * 1000.0);
            let found = clients::items(&body)?;
            anyhow::ensure!(found == items, "{path} has {found} items instead of {items}");
        }
        Ok(percentile(&mut samples, 50.0))
    };
    let whole = timed(path(""), LISTS, flags.objects).await?;
    results.add("list_ms", "the whole list, ms", rounded(whole));
    let label = format!("{}?labelSelector=app%3Da7", path(""));
    let labelled = (0..flags.objects).filter(|at| clients::app(*at) == "a7").count();
    let label = timed(label, LABEL_LISTS, labelled).await?;
    results.add("label_ms", "a list by label (one of a hundred), ms", rounded(label));
    let mut pages = Vec::new();
    for _ in 0..LISTS {
        let began = harness::wait::now();
        let (mut found, mut token) = (0, String::new());
        loop {
            let body = client.get(&format!("{}?limit={PAGE}&continue={token}", path(""))).await?;
            found += clients::items(&body)?;
            token = clients::continued(&body)?;
            if token.is_empty() {
                break;
            }
        }
        pages.push(began.elapsed().as_secs_f64() * 1000.0);
        anyhow::ensure!(found == flags.objects, "the pages have {found} items");
    }
    results.add("paged_ms", "the whole list in pages of 500, ms", rounded(percentile(&mut pages, 50.0)));
    Ok(())
}

/// Does `one` for `0..count`, shared between the clients.
async fn per_second<F, Fut>(clients: &[Arc<Client>], count: usize, one: F) -> Result<f64>
where
    F: Fn(Arc<Client>, usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let began = harness::wait::now();
    let share = |worker: usize| {
        let (client, one, step) = (clients[worker].clone(), one.clone(), clients.len());
        tokio::spawn(async move {
            for at in (worker..count).step_by(step) {
                one(client.clone(), at).await?;
            }
            Ok::<_, anyhow::Error>(())
        })
    };
    let running: Vec<_> = (0..clients.len()).map(share).collect();
    for task in running {
        task.await??;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// A hundred writers, each changing objects of its own and one that all share; how many writes failed (conflicts of the
/// shared one cannot be: it is patched).
async fn crowd(kubeconfig: &Path) -> Result<usize> {
    let clients = Client::many(kubeconfig, CROWD).await?;
    let write = |(worker, client): (usize, Arc<Client>)| {
        tokio::spawn(async move {
            let mut failed = 0;
            for at in 0..CHANGES_OF_ONE {
                let patch = json!({"data": {format!("w{worker}"): at.to_string()}});
                failed += usize::from(client.patch(&path("o-0"), &patch).await.is_err());
                let own = path(&format!("o-{}", worker + 1));
                failed += usize::from(client.put(&own, clients::body(worker + 1, at)).await.is_err());
            }
            failed
        })
    };
    let mut failed = 0;
    for task in clients.into_iter().enumerate().map(write).collect::<Vec<_>>() {
        failed += task.await?;
    }
    Ok(failed)
}

/// Resident, MB, of all together.
fn memory(pids: &[i32]) -> Result<f64> {
    let all: Result<Vec<u64>> = pids.iter().map(|pid| harness::memory::resident_kb(*pid)).collect();
    Ok(all?.iter().sum::<u64>() as f64 / 1024.0)
}

/// Bytes of the files below `folder`.
fn size(folder: &Path) -> Result<f64> {
    let mut bytes = 0.0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { size(&entry.path())? } else { meta.len() as f64 };
    }
    Ok(bytes)
}
