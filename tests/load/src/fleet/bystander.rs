//! An edge that has nothing to do with the storm: how long its own updates take.

use std::time::{Duration, Instant};

use anyhow::Result;
use cloudcore::kubernetes::Cluster;
use edgecore::metamanager::{Change, LinkState, ObjectChange};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::ground::Ground;
use crate::hollow::{self, Hollow};
use crate::result::percentile;
use crate::{Common, objects, workers};

/// Between two updates.
const PACE: Duration = Duration::from_millis(50);
const NAME: &str = "bystander";

pub struct Bystander {
    cluster: Cluster,
    edge: Hollow,
    /// Newest version committed, and when.
    committed: watch::Receiver<(u64, Option<Instant>)>,
}

pub struct Samples {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<Vec<f64>>>,
}

pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub count: usize,
}

impl Bystander {
    pub async fn start(common: &Common, ground: &Ground) -> Result<Bystander> {
        let names = vec![NAME.to_owned()];
        let wanted =
            vec![objects::node(NAME), objects::config_map(NAME, "0"), objects::pod(NAME, NAME, &names)];
        objects::ensure_all(&ground.cluster, wanted).await?;
        let folder = ground.scratch.path().join(NAME);
        hollow::write_identity(&ground.authority().await?, &folder, NAME)?;
        let server = if common.quic { ground.quic_server() } else { ground.server() };
        let servers = workers::servers(&server, common.quic, &common.dialect);
        let (changes, inbox) = mpsc::channel(64);
        let edge = hollow::start(NAME, &folder, servers, Duration::from_secs(15), changes)?;
        let (newest, committed) = watch::channel((0, None));
        tokio::spawn(note(inbox, newest));
        Ok(Bystander { cluster: ground.cluster.clone(), edge, committed })
    }

    /// Updates its config map again and again until [`Bystander::finish`].
    pub fn watch(&self) -> Samples {
        let stop = CancellationToken::new();
        let (cluster, link) = (self.cluster.clone(), self.edge.link.clone());
        let task = tokio::spawn(sample(cluster, link, self.committed.clone(), stop.clone()));
        Samples { stop, task }
    }

    pub async fn finish(&self, samples: Samples) -> Result<Latency> {
        samples.stop.cancel();
        let mut samples = samples.task.await??;
        Ok(Latency {
            p50: percentile(&mut samples, 50.0),
            p99: percentile(&mut samples, 99.0),
            count: samples.len(),
        })
    }
}

async fn note(mut inbox: mpsc::Receiver<ObjectChange>, newest: watch::Sender<(u64, Option<Instant>)>) {
    while let Some(change) = inbox.recv().await {
        if let Change::Put { version, .. } = &change.change
            && change.key.to_string() == format!("default/configmap/{NAME}")
        {
            newest.send_replace((version.0.parse().unwrap_or_default(), Some(harness::wait::now())));
        }
    }
}

/// Milliseconds from the API server's answer until the commit. Updates go out at a fixed pace, whatever becomes of those
/// before them: a stall delays every one that falls into it. Those planned while the edge itself is not connected do not
/// count.
async fn sample(
    cluster: Cluster,
    link: watch::Receiver<LinkState>,
    committed: watch::Receiver<(u64, Option<Instant>)>,
    stop: CancellationToken,
) -> Result<Vec<f64>> {
    let mut pace = tokio::time::interval(PACE);
    let mut under_way = JoinSet::new();
    for number in 0_u64.. {
        tokio::select! {
            biased;
            _ = stop.cancelled() => break,
            _ = pace.tick() => {}
        }
        if *link.borrow() == LinkState::Connected {
            under_way.spawn(one(cluster.clone(), committed.clone(), number));
        }
    }
    let mut samples = Vec::new();
    while let Some(sample) = under_way.join_next().await {
        samples.push(sample??);
    }
    Ok(samples)
}

async fn one(
    cluster: Cluster,
    mut committed: watch::Receiver<(u64, Option<Instant>)>,
    number: u64,
) -> Result<f64> {
    let version = loop {
        match objects::patch(&cluster, NAME, &number.to_string()).await {
            // Updates under way at once may meet in a busy API server.
            Err(status) if status.is_conflict() => {}
            answered => break answered?,
        }
    };
    let version: u64 = version.parse()?;
    let answered = harness::wait::now();
    let seen = committed.wait_for(|(newest, _)| *newest >= version);
    let at = match tokio::time::timeout(Duration::from_secs(120), seen).await {
        Ok(seen) => seen?.1,
        Err(_) => anyhow::bail!("an update of the bystander does not arrive"),
    };
    // The edge may have it before this client has its answer.
    let late = at.map_or(Duration::ZERO, |at| at.saturating_duration_since(answered));
    Ok(late.as_secs_f64() * 1000.0)
}
