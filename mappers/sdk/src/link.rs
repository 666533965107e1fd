//! Keeps the mapper registered with EdgeCore.
//!
//! ```text
//! connecting --registered--> linked --a report fails, or the socket is another one--> connecting
//!     ^  |fails: pause
//!     +--+
//! ```

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dmi::v1beta1::MapperRegisterResponse;
use dmi::{DmiCallError, Manager};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::Settings;

/// First pause after a failed attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often the socket is looked at: a restarted EdgeCore has a new one, and the connection may not notice.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) struct Link {
    pub settings: Settings,
    pub manager: watch::Sender<Option<Manager>>,
    pub broken: Arc<Notify>,
}

impl Link {
    /// Registers for ever; `on_answer` gets the models and devices of each registration.
    pub(crate) async fn run(self, on_answer: impl Fn(MapperRegisterResponse), stop: CancellationToken) {
        let mut failures = 0;
        while !stop.is_cancelled() {
            let identity = identity(&self.settings.edgecore);
            let registered = tokio::select! {
                biased;
                _ = stop.cancelled() => return,
                registered = self.register() => registered,
            };
            let pause = match registered {
                Ok((manager, answer)) => {
                    failures = 0;
                    tracing::info!(peer = %self.settings.edgecore.display(), "registered with EdgeCore");
                    self.manager.send_replace(Some(manager));
                    on_answer(answer);
                    self.until_broken(identity, &stop).await;
                    self.manager.send_replace(None);
                    FIRST_PAUSE
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(error = %error, "not registered with EdgeCore, trying again");
                    }
                    failures += 1;
                    FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE)
                }
            };
            tokio::select! {
                biased;
                _ = stop.cancelled() => return,
                _ = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn register(&self) -> Result<(Manager, MapperRegisterResponse), DmiCallError> {
        let manager = Manager::connect(&self.settings.edgecore).await?;
        let answer = manager.register(self.settings.info(), true).await?;
        Ok((manager, answer))
    }

    async fn until_broken(&self, identity: Option<(u64, i64, i64)>, stop: &CancellationToken) {
        loop {
            tokio::select! {
                biased;
                _ = stop.cancelled() => return,
                _ = self.broken.notified() => return,
                _ = tokio::time::sleep(LOOK) => {}
            }
            // A missing file may be a restart under way: reports show whether anyone still answers.
            let now = self::identity(&self.settings.edgecore);
            if now.is_some() && now != identity {
                return;
            }
        }
    }
}

/// Which socket file this is: inode and change time, as inodes are used again.
fn identity(path: &Path) -> Option<(u64, i64, i64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}
