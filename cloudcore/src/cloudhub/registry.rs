//! Which session a node has now.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use message::NodeName;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::streams::StreamDoor;
use crate::refused::Holder;

/// The place of one session. Cancelled when a newer connection of the node takes over or its node is deleted.
#[derive(Clone)]
pub struct SessionHandle {
    pub node: NodeName,
    pub epoch: u64,
    /// Whose certificate it presented.
    pub holder: Arc<Holder>,
    /// Why its node was put out, before it is told to end.
    pub put_out: Arc<OnceLock<String>>,
    pub ended: CancellationToken,
    /// Where streams to the node are asked for.
    pub streams: StreamDoor,
}

/// What this replica knows of a node's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Connected,
    /// Its last session here ended a short time ago.
    LeftLately,
    Unknown,
}

/// How long it is remembered that a session ended: as long as the node's lease may look fresh.
const LATELY: Duration = Duration::from_secs(60);

#[derive(Clone, Default)]
pub struct Registry {
    sessions: Arc<Mutex<HashMap<NodeName, SessionHandle>>>,
    /// When sessions ended, oldest first.
    left: Arc<Mutex<VecDeque<(Instant, NodeName)>>>,
    epochs: Arc<AtomicU64>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<NodeName, SessionHandle>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a new session; an older one of the same node is told to end. `None` when `limit` other nodes are
    /// connected already.
    pub fn enter(
        &self,
        node: &NodeName,
        holder: Holder,
        limit: usize,
        parent: &CancellationToken,
    ) -> Option<SessionHandle> {
        let mut sessions = self.lock();
        if !sessions.contains_key(node) && sessions.len() >= limit {
            return None;
        }
        let epoch = self.epochs.fetch_add(1, Ordering::Relaxed) + 1;
        let handle = SessionHandle {
            node: node.clone(),
            epoch,
            holder: Arc::new(holder),
            put_out: Arc::default(),
            ended: parent.child_token(),
            streams: StreamDoor::default(),
        };
        if let Some(older) = sessions.insert(node.clone(), handle.clone()) {
            older.ended.cancel();
        }
        Some(handle)
    }

    /// Leaves, if the session is still the node's current one.
    pub fn leave(&self, handle: &SessionHandle) {
        let mut sessions = self.lock();
        if sessions.get(&handle.node).is_some_and(|current| current.epoch == handle.epoch) {
            sessions.remove(&handle.node);
            let (mut left, now) = (self.left.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
            while left.front().is_some_and(|(since, _)| now.duration_since(*since) > LATELY) {
                left.pop_front();
            }
            left.push_back((now, handle.node.clone()));
        }
    }

    /// Nodes whose sessions ended after `moment`, which is not longer ago than a minute. Some of them may be back.
    pub fn left_after(&self, moment: Instant) -> HashSet<NodeName> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = left.iter().rev().take_while(|(since, _)| *since > moment);
        ended.map(|(_, node)| node.clone()).collect()
    }

    pub fn presence(&self, node: &NodeName) -> Presence {
        if self.lock().contains_key(node) {
            return Presence::Connected;
        }
        let (left, now) = (self.left.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        let lately = left.iter().any(|(since, name)| name == node && now.duration_since(*since) <= LATELY);
        if lately { Presence::LeftLately } else { Presence::Unknown }
    }

    /// Ends the sessions for which `reason` gives one.
    pub fn end_where(&self, reason: impl Fn(&NodeName, &Holder) -> Option<String>) {
        for handle in self.lock().values() {
            if let Some(reason) = reason(&handle.node, &handle.holder) {
                // Set already: it was told.
                let _ = handle.put_out.set(reason);
                handle.ended.cancel();
            }
        }
    }

    /// Where streams to a node that is connected here are asked for.
    pub fn streams(&self, node: &NodeName) -> Option<StreamDoor> {
        self.lock().get(node).map(|handle| handle.streams.clone())
    }

    pub fn is_current(&self, handle: &SessionHandle) -> bool {
        self.lock().get(&handle.node).is_some_and(|current| current.epoch == handle.epoch)
    }

    /// Who is connected.
    pub fn nodes(&self) -> HashSet<NodeName> {
        self.lock().keys().cloned().collect()
    }

    pub fn connected(&self) -> usize {
        self.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(registry: &Registry, node: &NodeName, stop: &CancellationToken) -> Option<SessionHandle> {
        let holder = Holder { node: node.to_string(), begins: 1, serial: "1".to_owned() };
        registry.enter(node, holder, 1, stop)
    }

    #[test]
    fn a_node_that_is_put_out_is_told_why_and_others_stay() {
        let (registry, stop) = (Registry::default(), CancellationToken::new());
        let nodes = ["bad", "good"].map(|name| NodeName::new(name).unwrap());
        let [bad, good] = nodes.map(|node| {
            let holder = Holder { node: node.to_string(), begins: 1, serial: "1".to_owned() };
            registry.enter(&node, holder, 2, &stop).unwrap()
        });
        registry.end_where(|node, _| (node.as_str() == "bad").then(|| "stolen".to_owned()));
        assert!(bad.ended.is_cancelled() && !good.ended.is_cancelled());
        assert_eq!((bad.put_out.get().map(String::as_str), good.put_out.get()), (Some("stolen"), None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_left_is_remembered_for_a_minute() {
        let (registry, stop) = (Registry::default(), CancellationToken::new());
        let node = NodeName::new("e1").unwrap();
        assert_eq!(registry.presence(&node), Presence::Unknown);
        let handle = enter(&registry, &node, &stop).unwrap();
        assert_eq!(registry.presence(&node), Presence::Connected);
        let before = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        registry.leave(&handle);
        assert_eq!(registry.left_after(before), HashSet::from([node.clone()]), "however short it was");
        assert!(registry.left_after(Instant::now()).is_empty());
        assert_eq!(registry.presence(&node), Presence::LeftLately);
        tokio::time::advance(LATELY + Duration::from_secs(1)).await;
        assert_eq!(registry.presence(&node), Presence::Unknown);
        let other = enter(&registry, &NodeName::new("e2").unwrap(), &stop).unwrap();
        registry.leave(&other);
        assert_eq!(registry.left.lock().unwrap().len(), 1, "the old entry is gone");
    }

    #[test]
    fn a_newer_session_takes_over_and_the_older_leaving_changes_nothing() {
        let registry = Registry::default();
        let stop = CancellationToken::new();
        let node = NodeName::new("e1").unwrap();
        let old = enter(&registry, &node, &stop).unwrap();
        let new = enter(&registry, &node, &stop).unwrap();
        assert!(old.ended.is_cancelled() && !new.ended.is_cancelled());
        registry.leave(&old);
        assert!(registry.is_current(&new));
        assert!(enter(&registry, &NodeName::new("e2").unwrap(), &stop).is_none());
        registry.leave(&new);
        assert_eq!(registry.connected(), 0);
    }
}
