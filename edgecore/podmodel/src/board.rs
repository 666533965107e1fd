//! The pods of this node as all rooms of Edged may see them: the newest object, the newest status, what they take.
//!
//! Written by the pods' room and its workers; read by admission, eviction, image collection, the node API.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use message::Json;
use tokio::sync::watch;

use super::demand::Demand;
use super::order::Wake;
use super::spec::PodId;
use super::stop_decision::StopDecision;
use crate::status::phase::Phase;

/// Handle of the board.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<BTreeMap<String, PodEntry>>>);

#[derive(Clone)]
pub struct PodEntry {
    pub id: PodId,
    /// The pod object as text: parsed where it is needed, which is seldom (ARCHITECTURE.md says what either costs).
    pub object: Json,
    /// The newest status this node computed; none before the first.
    pub status: Option<Arc<PodStatus>>,
    pub demand: Arc<Demand>,
    /// Ends or holds the pod, or lets it go on.
    pub decision: watch::Sender<Option<StopDecision>>,
    pub wake: Arc<Wake>,
    /// Nobody wants the pod any more.
    pub is_leaving: bool,
}

impl PodEntry {
    /// The pod with the newest status.
    pub fn pod(&self) -> Option<Pod> {
        let mut pod = self.object.parse::<Pod>().ok()?;
        if let Some(status) = &self.status {
            pod.status = Some(PodStatus::clone(status));
        }
        Some(pod)
    }

    /// True if its containers run or may run again.
    pub fn is_active(&self) -> bool {
        let phase = self.status.as_ref().and_then(|status| status.phase.as_deref());
        let condemned = self.decision.borrow().is_some();
        !Phase::read(phase).is_terminal() && !condemned
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, PodEntry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put(&self, entry: PodEntry) {
        self.lock().insert(entry.id.uid.clone(), entry);
    }

    /// A newer object of a pod that is there.
    pub fn replace(&self, uid: &str, object: Json, demand: Demand) {
        if let Some(entry) = self.lock().get_mut(uid) {
            (entry.object, entry.demand) = (object, Arc::new(demand));
        }
    }

    pub fn tell(&self, uid: &str, status: Arc<PodStatus>) {
        if let Some(entry) = self.lock().get_mut(uid) {
            entry.status = Some(status);
        }
    }

    /// Its worker looks again, and tells its status anew if others changed what was told.
    pub fn wake(&self, uid: &str) {
        if let Some(entry) = self.lock().get(uid) {
            entry.wake.now();
        }
    }

    /// What pods wait for may have come: none of them waits for its next attempt.
    pub fn retry(&self) {
        self.lock().values().for_each(|entry| entry.wake.retry_now());
    }

    pub fn leaving(&self, uid: &str) {
        if let Some(entry) = self.lock().get_mut(uid) {
            entry.is_leaving = true;
        }
    }

    pub fn remove(&self, uid: &str) {
        self.lock().remove(uid);
    }

    pub fn get(&self, uid: &str) -> Option<PodEntry> {
        self.lock().get(uid).cloned()
    }

    /// The pod of this name; of two of the same name the one that is not ending.
    pub fn named(&self, namespace: &str, name: &str) -> Option<PodEntry> {
        let board = self.lock();
        let mut found =
            board.values().filter(|entry| entry.id.namespace == namespace && entry.id.name == name);
        let first = found.next()?;
        Some(found.find(|entry| entry.is_active()).unwrap_or(first).clone())
    }

    /// All pods, by uid.
    pub fn entries(&self) -> Vec<PodEntry> {
        self.lock().values().cloned().collect()
    }
}
