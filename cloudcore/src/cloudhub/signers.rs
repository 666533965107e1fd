//! Which CA signed the certificate each node has, written to its node object: before a CA is retired, `keadm ca retire`
//! names the nodes that have not renewed.
//!
//! Told of every certificate that is signed and every one that is presented; the last counts. Writes are few a second:
//! after a restart of CloudCore all nodes present theirs.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::refused::SIGNED_BY;
use message::NodeName;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::kubernetes::{Cluster, Merge, Resource};

/// Time between two writes.
const PACE: Duration = Duration::from_millis(50);
/// A node that joins has no object at first; one that has none for longer is told of at its next connection.
const AGAIN: Duration = Duration::from_secs(5);
const ATTEMPTS: u8 = 6;

#[derive(Default)]
struct State {
    /// Fingerprints as they were written. One entry per node object.
    written: HashMap<NodeName, String>,
    waiting: HashMap<NodeName, Waiting>,
}

struct Waiting {
    ca: String,
    attempts: u8,
}

/// The handle. Clones share it.
#[derive(Clone, Default)]
pub struct Signers {
    state: Arc<Mutex<State>>,
    noted: Arc<Notify>,
}

impl Signers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `node` has a certificate of the CA with this fingerprint.
    pub fn note(&self, node: &NodeName, ca: String) {
        let mut state = self.lock();
        if state.written.get(node) == Some(&ca) {
            state.waiting.remove(node);
            return;
        }
        state.waiting.insert(node.clone(), Waiting { ca, attempts: 0 });
        drop(state);
        self.noted.notify_one();
    }

    fn next(&self) -> Option<(NodeName, Waiting)> {
        let mut state = self.lock();
        let node = state.waiting.keys().next()?.clone();
        state.waiting.remove_entry(&node)
    }

    fn wrote(&self, node: NodeName, ca: String) {
        self.lock().written.insert(node, ca);
    }

    /// To be tried again, unless something newer was noted.
    fn postpone(&self, node: NodeName, waiting: Waiting) {
        self.lock().waiting.entry(node).or_insert(waiting);
    }

    /// Writes what was noted, until stopped.
    pub async fn run(self, cluster: Cluster, stop: CancellationToken) -> Result<(), Infallible> {
        loop {
            tokio::select! {
                biased;
                _ = stop.cancelled() => return Ok(()),
                () = self.write_all(&cluster) => {}
            }
        }
    }

    /// One round: each node once, then a pause for those that are left.
    async fn write_all(&self, cluster: &Cluster) {
        let mut left = Vec::new();
        while let Some((node, waiting)) = self.next() {
            let patch = json!({"metadata": {"annotations": {SIGNED_BY: waiting.ca}}}).to_string();
            let path = Resource::Nodes.path(None, node.as_str());
            match cluster.patch(&path, Merge::Json, patch).await {
                Ok(_) => self.wrote(node, waiting.ca),
                Err(status) if !status.is_retryable() && waiting.attempts >= ATTEMPTS => {
                    // A node without an object is nothing to warn of.
                    if !status.is_not_found() {
                        tracing::warn!(%node, error = %status, "the CA of its certificate was not written to the node: keadm ca retire will name it");
                    }
                }
                Err(status) => {
                    tracing::debug!(%node, error = %status, "the CA of its certificate was not written to the node");
                    left.push((node, Waiting { attempts: waiting.attempts.saturating_add(1), ..waiting }));
                }
            }
            tokio::time::sleep(PACE).await;
        }
        if left.is_empty() {
            return self.noted.notified().await;
        }
        left.into_iter().for_each(|(node, waiting)| self.postpone(node, waiting));
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_not_written_again_and_the_last_certificate_counts() {
        let (signers, node) = (Signers::default(), NodeName::new("e1").unwrap());
        signers.note(&node, "old".to_owned());
        signers.note(&node, "new".to_owned());
        let (_, waiting) = signers.next().unwrap();
        assert_eq!(waiting.ca, "new");
        signers.wrote(node.clone(), waiting.ca);
        signers.note(&node, "new".to_owned());
        assert!(signers.next().is_none());
        signers.note(&node, "old".to_owned());
        signers.postpone(node.clone(), Waiting { ca: "older".to_owned(), attempts: 1 });
        assert_eq!(signers.next().unwrap().1.ca, "old", "what was noted since counts");
    }
}
