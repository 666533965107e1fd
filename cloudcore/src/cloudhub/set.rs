//! The handle by which controllers reach one node: its desired set, and a few unacknowledged notices.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use message::Downstream;
use tokio::sync::Notify;

use super::Desired;

/// Notices kept for a node that reads slowly; a full membership list follows on its next connection.
const MAX_NOTICES: usize = 64;

/// Messages that need no acknowledgement (device membership).
pub type Notices = Vec<Downstream>;

#[derive(Default)]
struct State {
    desired: Desired,
    notices: Notices,
    /// Notices that found no place, since they were counted last.
    dropped: u64,
    node_deleted: bool,
}

/// Shared by the session and the controllers; writing never waits.
#[derive(Clone, Default)]
pub struct NodeSet {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl NodeSet {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads or changes the desired set, then wakes the session.
    pub fn with<T>(&self, work: impl FnOnce(&mut Desired) -> T) -> T {
        let result = work(&mut self.lock().desired);
        self.changed.notify_one();
        result
    }

    /// For the session itself: no wake-up.
    pub(super) fn quietly<T>(&self, work: impl FnOnce(&mut Desired) -> T) -> T {
        work(&mut self.lock().desired)
    }

    /// Sends once, without acknowledgement. Dropped when the node does not read.
    pub fn notice(&self, notice: Downstream) {
        let mut state = self.lock();
        if state.notices.len() < MAX_NOTICES {
            state.notices.push(notice);
        } else {
            state.dropped += 1;
        }
        drop(state);
        self.changed.notify_one();
    }

    /// The node object is gone: its session ends (docs/protocol/transport.md 3.6).
    pub fn end_deleted(&self) {
        self.lock().node_deleted = true;
        self.changed.notify_one();
    }

    pub(super) fn is_node_deleted(&self) -> bool {
        self.lock().node_deleted
    }

    /// What is waiting, and how many notices were dropped since the last call.
    pub(super) fn take_notices(&self) -> (Notices, u64) {
        let mut state = self.lock();
        (std::mem::take(&mut state.notices), std::mem::take(&mut state.dropped))
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}
