//! An edge that has nothing to do with the storm: how long its own updates take.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cloudcore::kubernetes::Cluster;
use metamanager::{Change, LinkState, ObjectChange};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::ground::Ground;
use crate::hollow::{self, Hollow};
use crate::latency::{self, Committed, Samples};
use crate::{Common, objects, workers};

/// Between two updates.
const PACE: Duration = Duration::from_millis(50);
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);
const NAME: &str = "bystander";

pub(super) struct Bystander {
    cluster: Cluster,
    edge: Hollow,
    committed: Committed,
}

impl Bystander {
    pub(super) async fn start(common: &Common, ground: &Ground) -> Result<Bystander> {
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

    /// To be called while CloudCore lives: ends when the edge has lost it and is connected to the next. Over UDP a death
    /// is noticed at the next packet.
    pub(super) fn back(&self) -> JoinHandle<Result<()>> {
        let mut link = self.edge.link.clone();
        let turned = async move {
            link.wait_for(|state| *state == LinkState::Disconnected).await?;
            link.wait_for(|state| *state == LinkState::Connected).await?;
            anyhow::Ok(())
        };
        tokio::spawn(async {
            tokio::time::timeout(PATIENCE, turned).await.context("the bystander stays away")?
        })
    }

    /// Updates its config map until told to finish. Those planned while the edge itself is not connected do not count.
    pub(super) fn watch(&self) -> Samples {
        let link = self.edge.link.clone();
        let connected = move || *link.borrow() == LinkState::Connected;
        latency::watch(&self.cluster, NAME, PACE, self.committed.clone(), connected)
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
