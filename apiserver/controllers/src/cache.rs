//! What informers know of the cluster: one store for each kind, shared by all controllers.
//!
//! Objects are kept as text, which takes a tenth of what they take once parsed, with their labels and owner beside; whoever
//! needs one parses it. An older state never replaces a newer one. Memory follows the objects there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use apimachinery::{LabelSelector, object};
use serde_json::Value;
use tokio::sync::watch;

use crate::api::{Key, Kind, version};
use crate::ownership;

/// What is kept of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub version: u64,
    pub uid: Box<str>,
    /// The uid of its controller; empty: it has none.
    pub owner: Box<str>,
    pub labels: BTreeMap<String, String>,
    text: Box<str>,
}

impl Entry {
    fn of(value: &Value) -> Entry {
        let labels = value.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Entry {
            version: version(value),
            uid: object::uid(value).into(),
            owner: ownership::controller_uid(value).into(),
            labels: labels.map(|(key, value)| (key.clone(), text(value))).collect(),
            text: value.to_string().into(),
        }
    }

    /// The object.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

/// A change of a store; both are `None` never.
#[derive(Clone, Debug)]
pub struct Change {
    pub kind: Kind,
    pub key: Key,
    pub old: Option<Arc<Entry>>,
    pub new: Option<Arc<Entry>>,
}

impl Change {
    /// The states before and after.
    pub fn states(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.old.iter().chain(self.new.iter())
    }
}

#[derive(Default)]
struct Inner {
    entries: BTreeMap<Key, Arc<Entry>>,
    /// By the uid of the controller.
    owned: HashMap<Box<str>, BTreeSet<Key>>,
    /// Everything up to this version is known.
    reached: u64,
    synced: bool,
}

/// All objects of a kind.
pub struct Store {
    pub kind: Kind,
    inner: RwLock<Inner>,
    progress: watch::Sender<()>,
}

impl Store {
    pub fn new(kind: Kind) -> Store {
        Store { kind, inner: RwLock::default(), progress: watch::Sender::new(()) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn entry(&self, key: &Key) -> Option<Arc<Entry>> {
        self.read().entries.get(key).cloned()
    }

    pub fn get(&self, key: &Key) -> Option<Value> {
        self.entry(key).map(|entry| entry.value())
    }

    /// Everything of a namespace; an empty one: everything.
    pub fn entries(&self, namespace: &str) -> Vec<(Key, Arc<Entry>)> {
        let inner = self.read();
        let from = Key::new(namespace, "");
        let range = inner.entries.range((Bound::Included(from), Bound::Unbounded));
        let inside = range.take_while(|(key, _)| namespace.is_empty() || key.namespace == namespace);
        inside.map(|(key, entry)| (key.clone(), entry.clone())).collect()
    }

    pub fn values(&self, namespace: &str) -> Vec<Value> {
        self.entries(namespace).iter().map(|(_, entry)| entry.value()).collect()
    }

    /// What in a namespace has these labels.
    pub fn selected(&self, namespace: &str, selector: &LabelSelector) -> Vec<Value> {
        let all = self.entries(namespace);
        all.iter()
            .filter(|(_, entry)| selector.matches(&entry.labels))
            .map(|(_, entry)| entry.value())
            .collect()
    }

    /// What names this controller as its owner.
    pub fn owned_by(&self, uid: &str) -> Vec<Value> {
        let inner = self.read();
        let keys = inner.owned.get(uid).into_iter().flatten();
        keys.filter_map(|key| inner.entries.get(key)).map(|entry| entry.value()).collect()
    }

    /// What a controller may have to do with: what it owns, and what has the labels and no other owner.
    pub fn candidates(&self, namespace: &str, uid: &str, selector: &LabelSelector) -> Vec<Value> {
        let all = self.entries(namespace);
        let is_candidate = |entry: &Entry| {
            *entry.owner == *uid || (entry.owner.is_empty() && selector.matches(&entry.labels))
        };
        all.iter().filter(|(_, entry)| is_candidate(entry)).map(|(_, entry)| entry.value()).collect()
    }

    pub fn len(&self) -> usize {
        self.read().entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True once everything was listed.
    pub fn is_synced(&self) -> bool {
        self.read().synced
    }

    /// The version up to which everything is known.
    pub fn reached(&self) -> u64 {
        self.read().reached
    }

    /// Waits for the next change, or progress, of this store.
    pub fn progress(&self) -> watch::Receiver<()> {
        self.progress.subscribe()
    }

    /// Takes in what a list answered. Returns what changed.
    pub fn replace(&self, items: Vec<Value>, reached: u64) -> Vec<Change> {
        let mut inner = self.write();
        let mut changes = Vec::new();
        let mut gone: BTreeSet<Key> = inner.entries.keys().cloned().collect();
        for mut value in items {
            let key = Key::of(&value);
            gone.remove(&key);
            changes.extend(self.put(&mut inner, key, &mut value));
        }
        changes.extend(gone.into_iter().filter_map(|key| self.take(&mut inner, key)));
        inner.reached = inner.reached.max(reached);
        inner.synced = true;
        drop(inner);
        self.progress.send_replace(());
        changes
    }

    /// Takes in a new state.
    pub fn apply(&self, mut value: Value) -> Option<Change> {
        let mut inner = self.write();
        inner.reached = inner.reached.max(version(&value));
        let change = self.put(&mut inner, Key::of(&value), &mut value);
        drop(inner);
        self.progress.send_replace(());
        change
    }

    /// Takes in a deletion.
    pub fn remove(&self, value: &Value) -> Option<Change> {
        let mut inner = self.write();
        inner.reached = inner.reached.max(version(value));
        let change = self.take(&mut inner, Key::of(value));
        drop(inner);
        self.progress.send_replace(());
        change
    }

    pub fn bookmark(&self, reached: u64) {
        let mut inner = self.write();
        inner.reached = inner.reached.max(reached);
        drop(inner);
        self.progress.send_replace(());
    }

    fn put(&self, inner: &mut Inner, key: Key, value: &mut Value) -> Option<Change> {
        object::metadata(value).remove("managedFields");
        let entry = Arc::new(Entry::of(value));
        let old = inner.entries.get(&key).cloned();
        if old.as_ref().is_some_and(|old| old.version >= entry.version && old.uid == entry.uid) {
            return None;
        }
        disown(inner, &key, old.as_deref());
        if !entry.owner.is_empty() {
            inner.owned.entry(entry.owner.clone()).or_default().insert(key.clone());
        }
        inner.entries.insert(key.clone(), entry.clone());
        Some(Change { kind: self.kind, key, old, new: Some(entry) })
    }

    fn take(&self, inner: &mut Inner, key: Key) -> Option<Change> {
        let old = inner.entries.remove(&key)?;
        disown(inner, &key, Some(&old));
        Some(Change { kind: self.kind, key, old: Some(old), new: None })
    }
}

fn disown(inner: &mut Inner, key: &Key, old: Option<&Entry>) {
    let Some(owner) = old.map(|old| &old.owner).filter(|owner| !owner.is_empty()) else { return };
    if let Some(keys) = inner.owned.get_mut(owner) {
        keys.remove(key);
        if keys.is_empty() {
            inner.owned.remove(owner);
        }
    }
}

/// The stores of several kinds.
#[derive(Default)]
pub struct Cache(Vec<Arc<Store>>);

impl Cache {
    pub fn of(kinds: impl IntoIterator<Item = Kind>) -> Cache {
        let mut cache = Cache::default();
        for kind in kinds {
            if cache.find(kind).is_none() {
                cache.0.push(Arc::new(Store::new(kind)));
            }
        }
        cache
    }

    pub fn find(&self, kind: Kind) -> Option<&Arc<Store>> {
        self.0.iter().find(|store| store.kind == kind)
    }

    /// The store of a kind that the cache was made with.
    ///
    /// # Panics
    /// If it was made without it: a controller names all kinds that it reads.
    pub fn store(&self, kind: Kind) -> &Store {
        self.find(kind).expect("a controller watches every kind that it reads")
    }

    pub fn stores(&self) -> impl Iterator<Item = &Arc<Store>> {
        self.0.iter()
    }

    pub fn is_synced(&self) -> bool {
        self.0.iter().all(|store| store.is_synced())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::kinds::lines;
    use serde_json::json;

    fn pod(name: &str, version: u64, owner: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "n", "uid": name, "resourceVersion": version.to_string(),
            "labels": {"app": "a"}, "managedFields": [{}],
            "ownerReferences": [{"uid": owner, "controller": true, "kind": "ReplicaSet", "name": "r"}]}})
    }

    #[test]
    fn an_older_state_does_not_replace_a_newer_one() {
        let store = Store::new(&lines::Pod);
        assert!(store.apply(pod("a", 5, "x")).is_some());
        assert!(store.apply(pod("a", 4, "y")).is_none());
        assert_eq!(store.owned_by("x").len(), 1);
        assert_eq!(store.reached(), 5);
        assert!(store.get(&Key::new("n", "a")).unwrap()["metadata"].get("managedFields").is_none());
    }

    #[test]
    fn what_a_list_lacks_is_gone() {
        let store = Store::new(&lines::Pod);
        store.replace(vec![pod("a", 1, "x"), pod("b", 2, "x")], 2);
        let changes = store.replace(vec![pod("b", 2, "x")], 9);
        assert_eq!(changes.len(), 1);
        assert!(changes[0].new.is_none() && changes[0].key.name == "a");
        assert_eq!((store.len(), store.reached()), (1, 9));
        assert_eq!(store.owned_by("x").len(), 1);
    }
}
