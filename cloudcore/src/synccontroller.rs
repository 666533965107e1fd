//! SyncController: remembers in the API server what each KubeEdge-dialect edge has acknowledged, as ObjectSync and
//! ClusterObjectSync objects (docs/protocol/transport.md 3.7), so that any replica knows after a restart what a node has.
//!
//! Owns the sync objects. Records are coalesced per (node, uid): a burst of acknowledgements costs one write each.

mod records;
mod writer;

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::reliablesyncs::{NEVER, split_name};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use message::{ObjectKey, ResourceVersion};
use tokio::sync::{Notify, oneshot};
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
    waiting: HashMap<(String, String), Waiting>,
    /// Uids that nodes may not have, whatever is recorded: by node and uid, until the node acknowledges them again or nothing is
    /// recorded of them.
    doubted: HashSet<(String, String)>,
    /// Nodes that have started and have not got everything since. Known to this replica only.
    started: HashSet<String>,
}

/// A record to be written.
struct Waiting {
    settled: Settled,
    /// Who wait for it.
    told: Vec<oneshot::Sender<bool>>,
}

impl State {
    /// Nothing is recorded of this uid: there is nothing to doubt, unless it was doubted since.
    fn is_unrecorded(&mut self, node: String, uid: String) {
        let one = (node, uid);
        if !self.waiting.contains_key(&one) {
            self.doubted.remove(&one);
        }
    }

    /// The newest counts. Who waits for another one hears that it is not written, unless it is the same.
    fn wait(&mut self, node: &str, settled: Settled, told: Option<oneshot::Sender<bool>>) {
        let of = (node.to_owned(), settled.uid.clone());
        let same = self.waiting.remove(&of).filter(|older| older.settled == settled);
        let told = same.map(|older| older.told).into_iter().flatten().chain(told).collect();
        self.waiting.insert(of, Waiting { settled, told });
    }
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
        self.lock().doubted.retain(|(of, _)| of != node);
        for (key, uid, ..) in desired::Records::known(self, node) {
            let settled = Settled { key, uid, version: None };
            writer::write(cluster, node, settled, false).await;
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
                WatchEvent::Gone { meta, .. } => {
                    state.records.gone(&meta.name);
                    if let Some((node, uid)) = split_name(&meta.name) {
                        state.doubted.remove(&(node.to_owned(), uid.to_owned()));
                    }
                }
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
            let writes = batch.into_iter().map(async |((node, uid), Waiting { settled, told })| {
                let is_removal = settled.version.is_none();
                let is_written = writer::write(&cluster, &node, settled, !told.is_empty()).await;
                if is_removal && is_written {
                    self.lock().is_unrecorded(node, uid);
                }
                for who in told {
                    // Its session may have ended.
                    let _ = who.send(is_written);
                }
            });
            futures_util::future::join_all(writes).await;
        }
    }

    fn take_waiting(&self) -> Vec<((String, String), Waiting)> {
        let mut state = self.lock();
        let keys: Vec<_> = state.waiting.keys().take(CONCURRENT_WRITES).cloned().collect();
        keys.into_iter().filter_map(|key| state.waiting.remove_entry(&key)).collect()
    }
}

impl desired::Records for Syncs {
    fn known(&self, node: &str) -> Vec<(ObjectKey, String, ResourceVersion)> {
        let state = self.lock();
        let mut records = state.records.of_node(node);
        let has_started = state.started.contains(node);
        let is_doubted = |uid: &String| state.doubted.contains(&(node.to_owned(), uid.clone()));
        let doubtful = records.iter_mut().filter(|(_, uid, _)| has_started || is_doubted(uid));
        doubtful.for_each(|(_, _, version)| *version = ResourceVersion::default());
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
                let gone = Settled { key: settled.key.clone(), uid, version: None };
                state.wait(node, gone, None);
            }
            state.doubted.remove(&(node.to_owned(), settled.uid.clone()));
        }
        state.wait(node, settled, None);
        drop(state);
        self.recorded.notify_one();
    }

    fn doubt(&self, node: &str, key: ObjectKey, uid: String) -> BoxFuture<'static, bool> {
        let (told, answer) = oneshot::channel();
        let mut state = self.lock();
        state.doubted.insert((node.to_owned(), uid.clone()));
        let version = Some(ResourceVersion(NEVER.to_owned()));
        state.wait(node, Settled { key, uid, version }, Some(told));
        drop(state);
        self.recorded.notify_one();
        // Without an answer the program ends.
        async move { answer.await.unwrap_or(false) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Records as _;
    use crate::kubernetes::Meta;
    use message::Json;

    fn settled(version: Option<&str>) -> Settled {
        let version = version.map(|version| ResourceVersion(version.into()));
        Settled { key: ObjectKey::parse("d/configmap/c").unwrap(), uid: "u".into(), version }
    }

    fn known(syncs: &Syncs) -> Vec<String> {
        syncs.known("e1").into_iter().map(|(_, _, version)| version.0).collect()
    }

    #[tokio::test]
    async fn what_a_node_may_not_have_is_not_counted_before_it_is_written_nor_before_it_has_it_again() {
        let syncs = Syncs::default();
        let meta = Meta { name: "e1.u".into(), namespace: Some("d".into()), ..Meta::default() };
        let record = serde_json::json!({"spec": {"objectAPIVersion": "v1", "objectKind": "ConfigMap", "objectName": "c"},
            "status": {"objectResourceVersion": "7"}});
        syncs.lock().records.put(&meta, &Json::of(&record));
        assert_eq!(known(&syncs), ["7"]);
        let doubt = syncs.doubt("e1", settled(None).key, "u".into());
        assert_eq!(known(&syncs), [""]);
        let waiting = syncs.take_waiting();
        assert_eq!(waiting[0].1.settled, settled(Some(NEVER)));
        waiting
            .into_iter()
            .for_each(|(_, waiting)| waiting.told.into_iter().for_each(|who| who.send(true).unwrap()));
        assert!(doubt.await);
        syncs.record("e1", settled(Some("7")));
        assert_eq!(known(&syncs), ["7"]);
        // Another record takes the place of the one that is waited for: it has to be asked for again.
        let doubt = syncs.doubt("e1", settled(None).key, "u".into());
        syncs.record("e1", settled(None));
        assert!(!doubt.await);
        assert_eq!(syncs.take_waiting()[0].1.settled, settled(None));
        // What is not recorded any more is not doubted any more, also where no record ever came.
        let _again = syncs.doubt("e1", settled(None).key, "u".into());
        syncs.lock().is_unrecorded("e1".into(), "u".into());
        assert_eq!(syncs.lock().doubted.len(), 1, "it was doubted since");
        syncs.take_waiting();
        syncs.lock().is_unrecorded("e1".into(), "u".into());
        assert!(syncs.lock().doubted.is_empty());
    }
}
