//! Live changes: one broadcast channel per resource and one for everything.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

use super::{Stored, Traits};
use crate::registered::{self, Registered};
use crate::registry::{DEFINITIONS, Registry};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    Added,
    Modified,
    Deleted,
}

impl EventKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            EventKind::Added => "ADDED",
            EventKind::Modified => "MODIFIED",
            EventKind::Deleted => "DELETED",
        }
    }

    pub(super) fn parse(text: &str) -> EventKind {
        match text {
            "ADDED" => EventKind::Added,
            "DELETED" => EventKind::Deleted,
            _ => EventKind::Modified,
        }
    }
}

/// One committed change.
#[derive(Debug)]
pub(crate) struct Event {
    pub kind: EventKind,
    /// As it is after the change; for deletions, as it was, with the deletion's revision.
    pub stored: Stored,
    pub traits: Traits,
    /// Before the change; `None` for additions.
    pub previous: Option<Traits>,
}

/// Events a watch may fall behind by before it reads the log instead.
const BEHIND: usize = 512;

pub(super) struct Hub {
    registry: Arc<Registry>,
    webhooks: Arc<Registered>,
    all: broadcast::Sender<Arc<Event>>,
    channels: Mutex<HashMap<String, broadcast::Sender<Arc<Event>>>>,
    /// Every change up to this revision is in the channels.
    announced: AtomicI64,
}

impl Hub {
    pub(super) fn new(registry: Arc<Registry>, webhooks: Arc<Registered>) -> Hub {
        Hub {
            registry,
            webhooks,
            all: broadcast::Sender::new(BEHIND),
            channels: Mutex::default(),
            announced: AtomicI64::new(0),
        }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) fn webhooks(&self) -> &Registered {
        &self.webhooks
    }

    pub(super) fn subscribe(&self, resource: Option<&str>) -> broadcast::Receiver<Arc<Event>> {
        let Some(resource) = resource else { return self.all.subscribe() };
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        // Channels nobody listens to any more go, so that the map is bounded by live watches.
        channels.retain(|name, channel| name == resource || channel.receiver_count() > 0);
        channels.entry(resource.to_owned()).or_insert_with(|| broadcast::Sender::new(BEHIND)).subscribe()
    }

    /// Called on the writer thread in commit order.
    pub(super) fn announce(&self, event: Arc<Event>) {
        let key = &event.stored.key;
        let revision = event.stored.revision;
        if key.resource == DEFINITIONS {
            match (event.kind, event.stored.value()) {
                (EventKind::Deleted, _) | (_, Err(_)) => self.registry.forget(&key.name),
                (_, Ok(definition)) => self.registry.define(&key.name, &definition),
            }
        }
        if let Some(phase) = registered::phase(&key.resource) {
            let value = event.stored.value().ok().filter(|_| event.kind != EventKind::Deleted);
            self.webhooks.set(phase, &key.name, value.as_ref());
        }
        let channel =
            self.channels.lock().unwrap_or_else(PoisonError::into_inner).get(&key.resource).cloned();
        // No receivers is not a failure.
        if let Some(channel) = channel {
            let _ = channel.send(event.clone());
        }
        let _ = self.all.send(event);
        self.announced.store(revision, Ordering::Release);
    }

    pub(super) fn announced(&self) -> i64 {
        self.announced.load(Ordering::Acquire)
    }
}
