//! What a backend stores and tells: objects, pages of lists, and changes.

use std::any::Any;
use std::sync::Arc;

use apimachinery::traits::Traits;
use apimachinery::{FieldSelector, LabelSelector, Status};
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::broadcast;

/// The place of an object, or of a collection where `name` is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Such as `pods` or `deployments.apps` ([`crate::registry::Resource::key`]).
    pub resource: String,
    /// Empty for cluster-scoped resources.
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(resource: &str, namespace: &str, name: &str) -> Key {
        Key { resource: resource.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// An object as stored.
#[derive(Clone, Debug)]
pub struct Stored {
    pub key: Key,
    /// Its `resourceVersion`.
    pub revision: i64,
    /// JSON without `apiVersion` and `kind`, but with `metadata`.
    pub body: Arc<str>,
}

impl Stored {
    /// The parsed body.
    ///
    /// # Errors
    /// 500 if it does not parse.
    pub fn value(&self) -> Result<Value, Status> {
        serde_json::from_str(&self.body)
            .map_err(|error| Status::internal(format!("stored object does not parse: {error}")))
    }
}

/// What a list or a watch is of.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// As in [`Key::resource`].
    pub resource: String,
    /// As the request named it, such as `v1` or `apps/v1`; empty for this program's own questions. Storage that has one
    /// form of an object needs it not.
    pub api_version: String,
    /// `None` for all namespaces and for cluster-scoped resources.
    pub namespace: Option<String>,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    /// Most items returned; 0 for all.
    pub limit: usize,
    /// The page ends after this many bytes of bodies, with one item at least; 0: it does not.
    pub part: usize,
    /// Return only what comes after this (namespace, name).
    pub after: Option<(String, String)>,
    /// As of this revision; `None` for now.
    pub at: Option<i64>,
    /// A watch begins with it, which has subscribed: any state will do that the subscription goes on from.
    pub begins_watch: bool,
}

impl ListQuery {
    /// True if the selectors choose `stored`. What does not parse is chosen by none.
    pub fn selects(&self, stored: &Stored) -> bool {
        if self.labels.is_everything() && self.fields.is_everything() {
            return true;
        }
        let object = serde_json::from_str(&stored.body).unwrap_or_default();
        let traits = Traits::of(&self.resource, &object).with_fields(&object, self.fields.fields());
        traits.match_selectors(&self.labels, &self.fields)
    }
}

/// Items of one snapshot, ordered by namespace and name.
#[derive(Debug)]
pub struct Page {
    pub items: Vec<Stored>,
    /// The revision of the snapshot.
    pub revision: i64,
    /// There are more items after the last one.
    pub more: bool,
    /// How many come after the last one, where that is known: not if there are selectors.
    pub remaining: Option<i64>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
}

impl EventKind {
    /// As in the events of a watch.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Added => "ADDED",
            EventKind::Modified => "MODIFIED",
            EventKind::Deleted => "DELETED",
        }
    }

    /// Reads [`EventKind::as_str`]; anything else is a modification.
    pub fn parse(text: &str) -> EventKind {
        match text {
            "ADDED" => EventKind::Added,
            "DELETED" => EventKind::Deleted,
            _ => EventKind::Modified,
        }
    }
}

/// One change.
#[derive(Debug)]
pub struct Event {
    pub kind: EventKind,
    /// As it is after the change; for deletions, as it was, with the deletion's revision.
    pub stored: Stored,
    pub traits: Traits,
    /// Before the change; `None` for additions.
    pub previous: Option<Traits>,
}

/// Answer to "what happened since".
pub enum Replay {
    /// In order, and the revision up to which they reach. Empty: there is nothing more up to that revision.
    Events(Vec<Event>, i64),
    /// What is known does not reach back that far; the current revision.
    Expired(i64),
}

/// What a backend shows to one watch.
pub trait Lens: Send {
    /// The object as the client sees it; `None`: not at all.
    fn show(&mut self, stored: &Stored) -> Option<Stored>;

    /// Resolves when objects may look different though they have not changed. It may be dropped and called again.
    fn changed(&mut self) -> BoxFuture<'_, ()>;

    /// The objects that the watch is of, as they are stored now: asked for after [`Lens::changed`].
    ///
    /// # Errors
    /// They cannot be had; the watch tells it as its last event.
    fn state(&mut self) -> BoxFuture<'_, Result<Vec<Stored>, Status>>;

    /// The object may have looked different in this very version: who goes on from a revision is told how it looks now.
    fn may_differ(&self, stored: &Stored) -> bool;
}

/// Live changes of a resource, in the order of their revisions. They may be of more of it than was asked for: a watch
/// drops what its namespace and selectors do not choose.
pub struct Subscription {
    pub(crate) events: broadcast::Receiver<Arc<Event>>,
    pub(crate) lens: Option<Box<dyn Lens>>,
    /// Dropped with the watch.
    _held: Option<Box<dyn Any + Send>>,
}

impl Subscription {
    /// A receiver that lags makes the watch read [`crate::Backend::replay`]; one that is closed ends it.
    pub fn new(events: broadcast::Receiver<Arc<Event>>) -> Subscription {
        Subscription { events, lens: None, _held: None }
    }

    /// The watch shows objects as `lens` does.
    #[must_use]
    pub fn through(self, lens: impl Lens + 'static) -> Subscription {
        Subscription { lens: Some(Box::new(lens)), ..self }
    }

    /// Keeps `guard` for as long as the watch lives.
    #[must_use]
    pub fn holding(self, guard: impl Send + 'static) -> Subscription {
        Subscription { _held: Some(Box::new(guard)), ..self }
    }
}
