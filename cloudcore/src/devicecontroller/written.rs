//! What was written into a DeviceStatus, and by which report.

use api::devices::StatusTwin;

/// Names a report among all that one edge ever sent: its database and the place in that database's outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub store: String,
    pub seq: u64,
}

/// What a DeviceStatus holds, as this replica read or wrote it last.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    pub version: String,
    pub twins: Vec<StatusTwin>,
    pub stamp: Option<Stamp>,
}

impl Written {
    /// False if there is no DeviceStatus.
    pub(super) fn exists(&self) -> bool {
        !self.version.is_empty()
    }
}

impl Stamp {
    pub fn parse(text: &str) -> Option<Stamp> {
        let (store, seq) = text.rsplit_once('/')?;
        Some(Stamp { store: store.to_owned(), seq: seq.parse().ok()? })
    }

    /// True if `written`, the stamp of the last report written, says that this one was written before.
    pub fn is_covered_by(&self, written: Option<&Stamp>) -> bool {
        written.is_some_and(|written| written.store == self.store && written.seq >= self.seq)
    }
}
