//! What there is left of each signal.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::Sources;
use nodebase::host::{self, Disk, Host, facts};
use nodebase::settings::{Eviction, Threshold};
use nodestatus::capacity::floor;

/// Left and all, in bytes, inodes or processes.
pub(super) type Reading = (u64, u64);

/// By signal; one that cannot be read is not there, and fires nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Readings(pub BTreeMap<String, Reading>);

impl Readings {
    /// Reads the signals that have a threshold.
    pub(super) async fn take(sources: &Sources, host: &Arc<dyn Host>, settings: &Eviction) -> Readings {
        let wanted =
            |start: &str| settings.thresholds.iter().any(|threshold| threshold.signal.starts_with(start));
        let bytes = |amount: i64| u64::try_from(amount).unwrap_or(0);
        let (limit, running) = facts::processes(&**host);
        let mut found: Vec<(String, Reading)> = vec![
            (
                "memory.available".to_owned(),
                (bytes(facts::memory_available(&**host)), bytes(facts::memory_bytes(&**host))),
            ),
            ("pid.available".to_owned(), (limit.saturating_sub(running), limit)),
        ];
        let node = host::disk(host, sources.base.settings.root_dir.clone()).await.unwrap_or_default();
        let images = match wanted("imagefs") || wanted("containerfs") {
            true => images(sources, host).await,
            false => Disk::default(),
        };
        for (name, disk) in [("nodefs", node), ("imagefs", images), ("containerfs", images)] {
            found.push((format!("{name}.available"), (disk.available, disk.bytes)));
            found.push((format!("{name}.inodesFree"), (disk.inodes_free, disk.inodes)));
        }
        // What has no size was not read.
        Readings(found.into_iter().filter(|(_, (_, all))| *all > 0).collect())
    }

    pub(super) fn is_below(&self, threshold: &Threshold) -> bool {
        self.0.get(&threshold.signal).is_some_and(|(left, all)| *left < floor_of(threshold, *all))
    }
}

/// A threshold as an amount of `all`.
pub(super) fn floor_of(threshold: &Threshold, all: u64) -> u64 {
    u64::try_from(floor(threshold.floor, i64::try_from(all).unwrap_or(i64::MAX))).unwrap_or(0)
}

/// The place does not move while the runtime lives; the numbers come from the file system itself.
async fn images(sources: &Sources, host: &Arc<dyn Host>) -> Disk {
    let mut known = sources.image_place.lock().await;
    if known.is_none()
        && let Ok(filesystems) = sources.base.runtime.image_filesystems().await
    {
        *known = filesystems.into_iter().find_map(|usage| usage.fs_id).map(|id| id.mountpoint);
    }
    let place = known.clone();
    drop(known);
    match place {
        Some(place) => host::disk(host, PathBuf::from(place)).await.unwrap_or_default(),
        None => Disk::default(),
    }
}
