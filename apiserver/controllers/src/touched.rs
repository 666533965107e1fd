//! Which owners a change concerns.

use apimachinery::LabelSelector;
use apimachinery::kinds::lines;
use serde_json::Value;

use crate::api::{Key, Kind};
use crate::cache::{Cache, Change, Entry};
use crate::ownership;

/// The selector of an object of `kind`; `None` if it cannot be read.
pub(crate) fn selector(kind: Kind, found: &Value) -> Option<LabelSelector> {
    if kind == &lines::ReplicationController {
        return Some(LabelSelector::of_labels(found));
    }
    LabelSelector::of_object(found, "spec.selector").ok()
}

/// The keys of owners of `kind` that a change concerns: of the owner itself, or of a pod of it, before and after; for a pod without
/// a controller, those that may take it over by the selector at `pointer`.
pub(crate) fn by_pods(kind: Kind, pointer: &str, cache: &Cache, change: &Change) -> Vec<Key> {
    if change.kind == kind {
        return vec![change.key.clone()];
    }
    if change.kind != &lines::Pod {
        return vec![];
    }
    let mut keys = owners(kind, change);
    let orphan = change.new.as_ref().filter(|new| new.owner.is_empty() && !new.labels.is_empty());
    if let Some(orphan) = orphan {
        keys.extend(selecting(kind, pointer, cache, &change.key.namespace, orphan));
    }
    keys.dedup();
    keys
}

/// The owners of `kind` that the object names as its controller, before and after.
pub(crate) fn owners(kind: Kind, change: &Change) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for state in change.states().filter(|state| !state.owner.is_empty()) {
        let value = state.value();
        let name = ownership::controller_name(&value, kind);
        let key = name.map(|name| Key::new(&change.key.namespace, name));
        keys.extend(key.filter(|key| !keys.contains(key)));
    }
    keys
}

/// The objects of `kind` in a namespace whose selector at `pointer` takes these labels.
pub(crate) fn selecting(
    kind: Kind,
    pointer: &str,
    cache: &Cache,
    namespace: &str,
    entry: &Entry,
) -> Vec<Key> {
    let all = cache.store(kind).entries(namespace).into_iter();
    let selects = |candidate: &Entry| {
        let value = candidate.value();
        let selector = value.pointer(pointer).and_then(|found| selector(kind, found));
        selector.is_some_and(|selector| !selector.is_everything() && selector.matches(&entry.labels))
    };
    all.filter(|(_, candidate)| selects(candidate)).map(|(key, _)| key).collect()
}
