//! Devices whose DeviceStatus nobody has seen.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Devices (namespace, name) whose DeviceStatus nobody has seen; never more than there are devices.
#[derive(Clone, Debug, Default)]
pub(super) struct Missing {
    names: Arc<Mutex<BTreeSet<(String, String)>>>,
    pub added: Arc<Notify>,
}

impl Missing {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<(String, String)>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device that may have none.
    pub(super) fn add(&self, namespace: String, name: String) {
        self.lock().insert((namespace, name));
        self.added.notify_one();
    }

    /// It exists, or its device does not.
    pub(super) fn found(&self, namespace: &str, name: &str) {
        self.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn next(&self) -> Option<(String, String)> {
        self.lock().pop_first()
    }
}
