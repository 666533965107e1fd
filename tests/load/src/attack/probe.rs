//! The edge that does no harm: how long its updates take until they are committed.

use std::time::Duration;

use anyhow::Result;
use tokio::sync::watch;

use crate::edge::Edge;
use crate::ground::Ground;
use crate::latency::{self, Committed};

pub(super) const NAME: &str = "probe";
/// Between two updates.
const PACE: Duration = Duration::from_millis(20);
/// Between two looks at the edge's database.
const LOOK: Duration = Duration::from_micros(500);

pub(super) struct Probe {
    committed: Committed,
}

impl Probe {
    /// Waits until the edge has the config map, then looks at its database all the time.
    pub(super) async fn start(edge: &Edge) -> Result<Probe> {
        let seen = edge.open().await?;
        seen.wait_for(&[NAME.to_owned()]).await?;
        let (newest, committed) = watch::channel((0, None));
        std::thread::spawn(move || {
            while !newest.is_closed() {
                if let Ok(Some(version)) = seen.version(NAME)
                    && let Ok(version) = version.parse::<u64>()
                {
                    let now = harness::wait::now();
                    newest.send_if_modified(|newest| {
                        let changed = newest.0 != version;
                        if changed {
                            *newest = (version, Some(now));
                        }
                        changed
                    });
                }
                harness::wait::pause(LOOK);
            }
        });
        Ok(Probe { committed })
    }

    /// Milliseconds of the updates begun in so many seconds. Every update counts: a link that is down during an attack
    /// is the attack's success.
    pub(super) async fn during(&self, seconds: u64, ground: &Ground) -> Result<Vec<f64>> {
        let samples = latency::watch(&ground.cluster, NAME, PACE, self.committed.clone(), || true);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        samples.all().await
    }
}
