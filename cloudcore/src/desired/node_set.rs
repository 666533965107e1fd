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
    /// What its MetaServer watches, which nothing of the above counts with; `None` before it watches anything. Every session
    /// begins without: an edge says after each connect what it watches.
    watched: Option<Box<Desired>>,
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
    pub fn without_wake<T>(&self, work: impl FnOnce(&mut Desired) -> T) -> T {
        work(&mut self.lock().desired)
    }

    /// Changes what is to be sent because it is watched, then wakes the session.
    pub fn with_watched(&self, work: impl FnOnce(&mut Desired)) {
        work(self.lock().watched.get_or_insert_with(|| Box::new(Desired::of_watches())));
        self.changed.notify_one();
    }

    /// For the session itself: no wake-up. `None` if nothing was ever watched in it.
    pub fn without_wake_watched<T>(&self, work: impl FnOnce(&mut Desired) -> T) -> Option<T> {
        self.lock().watched.as_deref_mut().map(work)
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

    pub fn is_node_deleted(&self) -> bool {
        self.lock().node_deleted
    }

    /// What is waiting, and how many notices were dropped since the last call.
    pub fn take_notices(&self) -> (Notices, u64) {
        let mut state = self.lock();
        (std::mem::take(&mut state.notices), std::mem::take(&mut state.dropped))
    }

    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}
