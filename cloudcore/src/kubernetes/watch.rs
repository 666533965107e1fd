//! One watch: tells a room what is there, what changed, what went, across reconnects and relists.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use futures_util::StreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, runtime};
use message::Json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::raw::{Meta, RawObject};
use super::{Cluster, Resource};

/// What a watch saw.
#[derive(Clone, Debug)]
pub struct Seen {
    pub resource: Resource,
    pub sight: Sight,
}

#[derive(Clone, Debug)]
pub enum Sight {
    Put {
        meta: Meta,
        object: Json,
    },
    Gone {
        meta: Meta,
        object: Json,
    },
    /// Everything that existed at the start has been told. Comes once.
    Synced,
}

/// Objects asked for at once when listing.
const PAGE: u32 = 500;

/// Watches `resource` for ever and tells `room`. Returns when stopped or when the room is gone.
pub async fn feed(cluster: Cluster, resource: Resource, room: mpsc::Sender<Seen>, stop: CancellationToken) {
    let api_resource = resource.api();
    let api: Api<RawObject> = Api::all_with(cluster.client.clone(), &api_resource);
    let events = runtime::WatchStreamExt::default_backoff(runtime::watcher(
        api,
        watcher::Config::default().page_size(PAGE),
    ));
    let mut events = std::pin::pin!(events);
    let mut known = Known::default();
    loop {
        let event = tokio::select! {
            biased;
            _ = stop.cancelled() => return,
            event = events.next() => event,
        };
        let sights = match event {
            None => return,
            Some(Err(error)) => {
                tracing::warn!(kind = %api_resource.kind, error = %error, "watch interrupted, trying again");
                continue;
            }
            Some(Ok(event)) => known.on_event(event, &api_resource),
        };
        for sight in sights {
            if room.send(Seen { resource, sight }).await.is_err() {
                return;
            }
        }
    }
}

/// Which objects were told, so that a relist can tell which are gone. There is one entry per object of the cluster.
#[derive(Default)]
struct Known {
    told: HashMap<Key, Told>,
    /// Objects of the running relist; `None` outside one.
    listed: Option<HashSet<Key>>,
    synced: bool,
}

/// `namespace/name`; the namespace is empty where there is none.
type Key = Box<str>;

#[derive(Debug, PartialEq, Eq)]
struct Told {
    uid: Box<str>,
    version: Box<str>,
}

fn key(meta: &Meta) -> Key {
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name).into()
}

impl Known {
    fn on_event(&mut self, event: Event<RawObject>, resource: &kube::core::ApiResource) -> Vec<Sight> {
        match event {
            Event::Init => {
                self.listed = Some(HashSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                let (meta, object) = object.typed(resource);
                if let Some(listed) = &mut self.listed {
                    listed.insert(key(&meta));
                }
                self.put(meta, object)
            }
            Event::Apply(object) => {
                let (meta, object) = object.typed(resource);
                self.put(meta, object)
            }
            Event::Delete(object) => {
                let (meta, object) = object.typed(resource);
                self.told.remove(&key(&meta));
                vec![Sight::Gone { meta, object }]
            }
            Event::InitDone => self.end_of_list(),
        }
    }

    fn put(&mut self, meta: Meta, object: Json) -> Vec<Sight> {
        let told = Told { uid: meta.uid.as_str().into(), version: meta.resource_version.as_str().into() };
        match self.told.entry(key(&meta)) {
            Entry::Vacant(entry) => {
                entry.insert(told);
                vec![Sight::Put { meta, object }]
            }
            Entry::Occupied(entry) if *entry.get() == told => Vec::new(),
            Entry::Occupied(mut entry) => {
                let old = entry.insert(told);
                // Deleted and created again between two sights.
                let replaced = (*old.uid != meta.uid).then(|| gone(entry.key(), old));
                replaced.into_iter().chain([Sight::Put { meta, object }]).collect()
            }
        }
    }

    fn end_of_list(&mut self) -> Vec<Sight> {
        let listed = self.listed.take().unwrap_or_default();
        let missing = self.told.extract_if(|key, _| !listed.contains(key));
        let mut sights: Vec<Sight> = missing.map(|(key, told)| gone(&key, told)).collect();
        if !self.synced {
            self.synced = true;
            sights.push(Sight::Synced);
        }
        sights
    }
}

/// An object whose end was not seen: only its identity is left.
fn gone(key: &str, told: Told) -> Sight {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    let meta = Meta {
        name: name.to_owned(),
        namespace: Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty()),
        uid: told.uid.into(),
        resource_version: told.version.into(),
        deletion_timestamp: None,
    };
    let stub =
        serde_json::json!({"metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid}});
    let object = Json::encode(&stub).unwrap_or_else(|_| Json::null());
    Sight::Gone { meta, object }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, uid: &str, version: &str) -> RawObject {
        let text = format!(
            "{{\"metadata\":{{\"name\":\"{name}\",\"uid\":\"{uid}\",\"resourceVersion\":\"{version}\"}}}}"
        );
        serde_json::from_str(&text).unwrap()
    }

    fn run(known: &mut Known, events: Vec<Event<RawObject>>) -> Vec<String> {
        let resource = Resource::Pods.api();
        let sights = events.into_iter().flat_map(|event| known.on_event(event, &resource));
        sights
            .map(|sight| match sight {
                Sight::Put { meta, .. } => format!("+{}@{}", meta.name, meta.resource_version),
                Sight::Gone { meta, .. } => format!("-{}", meta.uid),
                Sight::Synced => "synced".to_owned(),
            })
            .collect()
    }

    #[test]
    fn a_relist_tells_what_is_new_what_changed_and_what_went() {
        let mut known = Known::default();
        let first = vec![
            Event::Init,
            Event::InitApply(object("a", "1", "1")),
            Event::InitApply(object("b", "2", "2")),
            Event::InitDone,
        ];
        assert_eq!(run(&mut known, first), ["+a@1", "+b@2", "synced"]);
        let second = vec![
            Event::Init,
            Event::InitApply(object("b", "9", "8")),
            Event::InitApply(object("c", "3", "9")),
            Event::InitDone,
        ];
        assert_eq!(run(&mut known, second), ["-2", "+b@8", "+c@9", "-1"]);
    }
}
