//! A DeviceStatus for each device that has none, as KubeEdge makes one when a device appears: users list them to see which
//! devices never reported. The first report of a device makes it as well, so nothing waits for this.
//!
//! ```text
//! new device --> Missing --(many: one list of what there is)--> POST, one at a time, at most 20 a second
//! ```

use std::convert::Infallible;
use std::time::Duration;

use apimachinery::kinds::lines;
use daemon::backoff::Backoff;
use message::Status;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Devices;
use super::upstream::create_status;
use crate::kubernetes::Cluster;

/// With more devices than this, what exists is listed before anything is made: a start with all of them made costs a page
/// of the list for each 500 instead of a request for each.
const LIST_FROM: usize = 50;
/// Between two that are made: the API server's work is for reports.
const PACE: Duration = Duration::from_millis(50);
/// First and longest wait after the API server failed.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

impl Devices {
    /// Makes what is missing until stopped, from when everything that existed at the start was told (`complete`).
    pub async fn create_statuses(
        self,
        cluster: Cluster,
        mut complete: watch::Receiver<bool>,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        let work = async {
            // Its sender is gone only when the program ends.
            let _ = complete.wait_for(|complete| *complete).await;
            let mut pace = tokio::time::interval(PACE);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut backoff = Backoff::new(RETRY.0, RETRY.1);
            loop {
                match self.create_all(&cluster, &mut pace).await {
                    Ok(()) => {
                        backoff.reset();
                        self.missing.added.notified().await;
                    }
                    Err(status) => {
                        tracing::warn!(error = %status, "DeviceStatus objects not made, trying again");
                        tokio::time::sleep(backoff.next()).await;
                    }
                }
            }
        };
        // Work has no end.
        let _: Option<()> = stop.run_until_cancelled(work).await;
        Ok(())
    }

    /// Makes all that are missing. Stops at a failure that may pass; what is refused for good is told and left.
    async fn create_all(&self, cluster: &Cluster, pace: &mut Interval) -> Result<(), Status> {
        if self.missing.len() > LIST_FROM {
            match cluster.list_metadata(&lines::DeviceStatus.path(None, "")).await {
                Ok(existing) => {
                    for meta in existing {
                        self.missing.found(&meta.namespace.unwrap_or_default(), &meta.name);
                    }
                }
                Err(status) if status.is_retryable() => return Err(status),
                Err(status) => {
                    tracing::warn!(error = %status, "DeviceStatus objects cannot be listed, each is tried to be made");
                }
            }
        }
        while let Some((namespace, name)) = self.missing.next() {
            pace.tick().await;
            let Some(device) = self.device(&namespace, &name) else { continue };
            match create_status(cluster, &device).await {
                Err(status) if status.is_retryable() => {
                    self.missing.add(namespace, name);
                    return Err(status);
                }
                Err(status) => {
                    tracing::warn!(%namespace, %name, error = %status, "DeviceStatus not made; the next report tries again");
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }
}
