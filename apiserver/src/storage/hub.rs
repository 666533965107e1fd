//! Live changes: one broadcast channel per resource and one for everything.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use apimachinery::rbac::Kind;
use apimachinery::traits::Traits;
use kubeapi::registry::{DEFINITIONS, Registry};
use kubeapi::stored::{Event, EventKind, Stored};
use tokio::sync::broadcast;

use crate::addresses::{Addresses, SERVICES};
use crate::apiservices::{self, Services};
use crate::graph::{self, Graph};
use crate::limits::{Limits, QUOTAS, RANGES};
use crate::namespaces::{NAMESPACES, Namespaces};
use crate::policies::{self, Policies};
use crate::registered::{self, Registered};
use crate::roles::{self, Roles};
use crate::rules::Rules;

/// Events a watch may fall behind by before it reads the log instead.
const BEHIND: usize = 512;

/// What is kept in memory of stored objects, in commit order.
#[derive(Clone, Default)]
pub(crate) struct Followers {
    pub registry: Arc<Registry>,
    pub webhooks: Arc<Registered>,
    pub policies: Arc<Policies>,
    pub rules: Arc<Rules>,
    pub roles: Arc<Roles>,
    pub addresses: Arc<Addresses>,
    pub namespaces: Arc<Namespaces>,
    pub graph: Arc<Graph>,
    pub limits: Arc<Limits>,
    pub services: Arc<Services>,
}

impl Followers {
    /// The keys of what they follow.
    pub(super) fn resources() -> Vec<String> {
        let webhooks = registered::CONFIGURATIONS.iter().map(|(key, _)| (*key).to_owned());
        let policies = policies::followed().map(str::to_owned);
        let roles = Kind::ALL.iter().map(|(plural, _)| roles::key(plural));
        let own = [DEFINITIONS, NAMESPACES, SERVICES, QUOTAS, RANGES, apiservices::SERVICES]
            .map(str::to_owned)
            .into_iter();
        let graph = graph::FOLLOWED.map(str::to_owned);
        own.chain(webhooks).chain(policies).chain(roles).chain(graph).collect()
    }

    /// Takes note of an object as it is after a change.
    pub(super) fn hear(&self, stored: &Stored, change: EventKind, traits: &Traits) {
        let key = &stored.key;
        let value = || stored.value().ok().filter(|_| change != EventKind::Deleted);
        if graph::FOLLOWED.contains(&key.resource.as_str()) {
            self.graph.hear(stored, change, traits);
        } else if key.resource == DEFINITIONS {
            self.rules.forget(&key.name);
            match value() {
                None => self.registry.forget(&key.name),
                Some(definition) => self.registry.define(&key.name, &definition),
            }
        } else if key.resource == NAMESPACES {
            self.namespaces.set(&key.name, value().as_ref());
        } else if key.resource == QUOTAS || key.resource == RANGES {
            self.limits.set(key, value().map(|value| (stored, value)));
        } else if key.resource == apiservices::SERVICES {
            self.services.set(&key.name, value().as_ref());
        } else if key.resource == SERVICES {
            self.addresses.set(key, value().as_ref());
        } else if let Some(phase) = registered::phase(&key.resource) {
            self.webhooks.set(phase, &key.name, value().as_ref());
        } else if policies::followed().any(|followed| followed == key.resource) {
            self.policies.set(&key.resource, &key.name, value().as_ref());
        } else if let Some(kind) = roles::kind(&key.resource) {
            self.roles.set(kind, &key.namespace, &key.name, value().as_ref());
        }
    }
}

pub(super) struct Hub {
    followers: Followers,
    all: broadcast::Sender<Arc<Event>>,
    channels: Mutex<HashMap<String, broadcast::Sender<Arc<Event>>>>,
    /// Every change up to this revision is in the channels.
    announced: AtomicI64,
}

impl Hub {
    pub(super) fn new(followers: Followers) -> Hub {
        Hub {
            followers,
            all: broadcast::Sender::new(BEHIND),
            channels: Mutex::default(),
            announced: AtomicI64::new(0),
        }
    }

    pub(super) fn followers(&self) -> &Followers {
        &self.followers
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
        self.followers.hear(&event.stored, event.kind, &event.traits);
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
