//! SyncController: remembers in the API server what each KubeEdge-dialect edge has acknowledged, as ObjectSync and
//! ClusterObjectSync objects (docs/protocol/transport.md 3.7), so that any replica knows after a restart what a node has.
//!
//! Owns the sync objects. Records are coalesced per (node, uid): a burst of acknowledgements costs one write each.

mod records;
mod writer;

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use message::{ObjectKey, ResourceVersion};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::desired::{self, Settled};
use crate::kubernetes::{Cluster, Follower, Resource, WatchEvent};
use records::Records;

/// What this room watches: its own objects.
pub const WATCHED: &[Resource] = &[Resource::ObjectSyncs, Resource::ClusterObjectSyncs];

/// Records written at once.
const CONCURRENT_WRITES: usize = 16;

#[derive(Default)]
struct State {
    records: Records,
    /// Newest acknowledgement per node and uid that is not written yet.
    waiting: HashMap<(String, String), Settled>,
    /// Nodes that have started and have not got everything since. Known to this replica only.
    started: HashSet<String>,
}

/// The room's handle.
#[derive(Clone, Default)]
pub struct Syncs {
    state: Arc<Mutex<State>>,
    recorded: Arc<Notify>,
}

impl Syncs {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nodes that anything is recorded of.
    pub fn nodes(&self) -> Vec<String> {
        self.lock().records.nodes()
    }

    /// Deletes all records of a node that is gone.
    pub async fn forget(&self, cluster: &Cluster, node: &str) {
        desired::Records::has_everything(self, node);
        for (key, uid, ..) in desired::Records::known(self, node) {
            let settled = Settled { key, uid, version: None };
            writer::write(cluster, node.to_owned(), settled).await;
        }
    }

    /// Follows the sync objects and writes records until stopped; what waits at the end is written first.
    pub async fn run(
        self,
        cluster: Cluster,
        follower: Follower,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        // Whichever ends first ends the other: a room without its watches must not go on as if it had them.
        let stop = stop.child_token();
        let follow = async {
            self.follow(follower, &stop).await;
            stop.cancel();
        };
        tokio::join!(follow, self.write(cluster, stop.clone()));
        Ok(())
    }

    async fn follow(&self, mut follower: Follower, stop: &CancellationToken) {
        while let Some((_, event)) = follower.next(stop).await {
            let _busy = follower.busy();
            let mut state = self.lock();
            match event {
                WatchEvent::Put { meta, object } => state.records.put(&meta, &object),
                WatchEvent::Gone { meta, .. } => state.records.gone(&meta.name),
                WatchEvent::Synced => {}
            }
        }
    }

    async fn write(&self, cluster: Cluster, stop: CancellationToken) {
        loop {
            let batch = self.take_waiting();
            if batch.is_empty() {
                tokio::select! {
                    biased;
                    _ = self.recorded.notified() => continue,
                    _ = stop.cancelled() => return,
                }
            }
            let writes = batch.into_iter().map(|((node, _), settled)| writer::write(&cluster, node, settled));
            futures_util::future::join_all(writes).await;
        }
    }

    fn take_waiting(&self) -> Vec<((String, String), Settled)> {
        let mut state = self.lock();
        let keys: Vec<_> = state.waiting.keys().take(CONCURRENT_WRITES).cloned().collect();
        keys.into_iter().filter_map(|key| state.waiting.remove_entry(&key)).collect()
    }
}

impl desired::Records for Syncs {
    fn known(&self, node: &str) -> Vec<(ObjectKey, String, ResourceVersion)> {
        let state = self.lock();
        let mut records = state.records.of_node(node);
        if state.started.contains(node) {
            records.iter_mut().for_each(|(_, _, version)| *version = ResourceVersion::default());
        }
        records
    }

    fn start_over(&self, node: &str) {
        self.lock().started.insert(node.to_owned());
    }

    fn owes_everything(&self, node: &str) -> bool {
        self.lock().started.contains(node)
    }

    fn has_everything(&self, node: &str) {
        self.lock().started.remove(node);
    }

    fn record(&self, node: &str, settled: Settled) {
        let mut state = self.lock();
        if settled.version.is_some() {
            for uid in state.records.replaced_by(node, &settled.key, &settled.uid) {
                let gone = Settled { key: settled.key.clone(), uid: uid.clone(), version: None };
                state.waiting.insert((node.to_owned(), uid), gone);
            }
        }
        state.waiting.insert((node.to_owned(), settled.uid.clone()), settled);
        drop(state);
        self.recorded.notify_one();
    }
}
