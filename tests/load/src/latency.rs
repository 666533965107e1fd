//! How long updates of one config map take, sent at a fixed pace.

use std::time::{Duration, Instant};

use anyhow::Result;
use cloudcore::kubernetes::Cluster;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::objects;
use crate::result::percentile;

/// Newest version committed at the edge, and when.
pub(crate) type Committed = watch::Receiver<(u64, Option<Instant>)>;

/// Longest wait for one update.
const PATIENCE: Duration = Duration::from_secs(120);

/// Updates that are being sent.
pub(crate) struct Samples {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<Vec<f64>>>,
}

/// Milliseconds from the API server's answer until the commit.
pub(crate) struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub count: usize,
}

/// Updates config map `name` again and again until [`Samples::finish`], whatever becomes of the updates before: a stall
/// delays every one that falls into it. Those planned while `counts` says no do not count. There is at least one: what is
/// watched may be over before the first is due.
pub(crate) fn watch(
    cluster: &Cluster,
    name: &'static str,
    pace: Duration,
    committed: Committed,
    counts: impl Fn() -> bool + Send + 'static,
) -> Samples {
    let stop = CancellationToken::new();
    let (cluster, ended) = (cluster.clone(), stop.clone());
    let task = tokio::spawn(async move {
        let mut pace = tokio::time::interval(pace);
        let mut under_way = JoinSet::new();
        let began = harness::wait::now();
        for number in 0_u64.. {
            tokio::select! {
                biased;
                _ = ended.cancelled(), if !under_way.is_empty() || began.elapsed() > PATIENCE => break,
                _ = pace.tick() => {}
            }
            if counts() {
                under_way.spawn(one(cluster.clone(), name, committed.clone(), number));
            }
        }
        let mut samples = Vec::new();
        while let Some(sample) = under_way.join_next().await {
            samples.push(sample??);
        }
        Ok(samples)
    });
    Samples { stop, task }
}

impl Samples {
    /// Milliseconds of each.
    pub(crate) async fn all(self) -> Result<Vec<f64>> {
        self.stop.cancel();
        self.task.await?
    }

    pub(crate) async fn finish(self) -> Result<Latency> {
        let mut samples = self.all().await?;
        Ok(Latency {
            p50: percentile(&mut samples, 50.0),
            p99: percentile(&mut samples, 99.0),
            count: samples.len(),
        })
    }
}

async fn one(cluster: Cluster, name: &str, mut committed: Committed, number: u64) -> Result<f64> {
    let version = loop {
        match objects::patch(&cluster, name, &number.to_string()).await {
            // Updates under way at once may meet in a busy API server.
            Err(status) if status.is_conflict() => {}
            answered => break answered?,
        }
    };
    let version: u64 = version.parse()?;
    let answered = harness::wait::now();
    let seen = committed.wait_for(|(newest, _)| *newest >= version);
    let at = match tokio::time::timeout(PATIENCE, seen).await {
        Ok(seen) => seen?.1,
        Err(_) => anyhow::bail!("an update of {name} does not arrive"),
    };
    // The edge may have it before this client has its answer.
    let late = at.map_or(Duration::ZERO, |at| at.saturating_duration_since(answered));
    Ok(late.as_secs_f64() * 1000.0)
}
