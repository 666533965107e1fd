//! The quotas and limit ranges of namespaces, ready to be asked.
//!
//! Kept by storage's commit hook, in commit order: what one object was charged with is seen by the next.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use kubeapi::stored::{Key, Stored};
use serde_json::Value;
use tokio::sync::Notify;

pub(crate) const QUOTAS: &str = "resourcequotas";
pub(crate) const RANGES: &str = "limitranges";

/// A quota as it is stored.
#[derive(Clone)]
pub(crate) struct Quota {
    pub revision: i64,
    pub value: Arc<Value>,
}

#[derive(Default)]
struct Of {
    quotas: BTreeMap<String, Quota>,
    ranges: BTreeMap<String, Arc<Value>>,
}

#[derive(Default)]
pub(crate) struct Limits {
    namespaces: RwLock<HashMap<String, Of>>,
    /// Namespaces in which something was charged that may not have been made.
    doubtful: Mutex<BTreeSet<String>>,
    doubted: Notify,
}

impl Limits {
    /// Takes note of an object as it is stored; `None`: it is gone.
    pub(crate) fn set(&self, key: &Key, stored: Option<(&Stored, Value)>) {
        let mut namespaces = self.namespaces.write().unwrap_or_else(PoisonError::into_inner);
        let of = namespaces.entry(key.namespace.clone()).or_default();
        let name = key.name.clone();
        match (key.resource.as_str(), stored) {
            (QUOTAS, Some((stored, value))) => {
                of.quotas.insert(name, Quota { revision: stored.revision, value: Arc::new(value) });
            }
            (QUOTAS, None) => drop(of.quotas.remove(&name)),
            (_, Some((_, value))) => drop(of.ranges.insert(name, Arc::new(value))),
            (_, None) => drop(of.ranges.remove(&name)),
        }
        if of.quotas.is_empty() && of.ranges.is_empty() {
            namespaces.remove(&key.namespace);
        }
    }

    pub(crate) fn ranges(&self, namespace: &str) -> Vec<Arc<Value>> {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        namespaces.get(namespace).map(|of| of.ranges.values().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn quotas(&self, namespace: &str) -> Vec<Quota> {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        namespaces.get(namespace).map(|of| of.quotas.values().cloned().collect()).unwrap_or_default()
    }

    /// Namespaces that have quotas.
    pub(crate) fn limited(&self) -> BTreeSet<String> {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        namespaces.iter().filter(|(_, of)| !of.quotas.is_empty()).map(|(name, _)| name.clone()).collect()
    }

    /// The quotas of a namespace are to be counted anew.
    pub(crate) fn doubt(&self, namespace: &str) {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace.to_owned());
        self.doubted.notify_one();
    }

    /// Waits until some are.
    pub(crate) async fn doubtful(&self) -> BTreeSet<String> {
        loop {
            let found = std::mem::take(&mut *self.doubtful.lock().unwrap_or_else(PoisonError::into_inner));
            if !found.is_empty() {
                return found;
            }
            self.doubted.notified().await;
        }
    }
}
