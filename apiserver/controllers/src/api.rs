//! The API as a client has it. Objects are JSON; kinds are lines of the table of kinds.

use apimachinery::kinds::{KindInfo, Scope};
use apimachinery::{Status, object};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use serde_json::Value;

/// A kind, as a line of [`apimachinery::kinds::lines`].
pub type Kind = &'static KindInfo;

/// Where an object is; the namespace is empty for kinds of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(namespace: &str, name: &str) -> Key {
        Key { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub fn of(object: &Value) -> Key {
        Key::new(object::namespace(object), object::name(object))
    }
}

/// The path of an object, or of the collection if `name` is empty.
pub fn path(kind: Kind, namespace: &str, name: &str) -> String {
    let scoped = kind.scope == Scope::Namespaced && !namespace.is_empty();
    kind.path(scoped.then_some(namespace), name)
}

/// The objects of a kind at one moment.
#[derive(Debug, Default)]
pub struct List {
    pub items: Vec<Value>,
    pub version: u64,
}

/// One event of a watch.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// New or changed.
    Applied(Value),
    /// As it was last, with the version of the deletion.
    Deleted(Value),
    /// Nothing else happened up to this version.
    Bookmark(u64),
}

pub type Watch = BoxStream<'static, Result<Event, Status>>;

/// What a deletion asks for beside the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deletion {
    /// Refused with 409 if the object has another uid; empty: any.
    pub uid: String,
    /// Seconds; `None`: what the object says.
    pub grace: Option<i64>,
    /// `Background`, `Foreground` or `Orphan`; empty: the server's default.
    pub propagation: &'static str,
}

impl Deletion {
    /// Of this very object and no successor of its name.
    pub fn of(object: &Value) -> Deletion {
        Deletion { uid: object::uid(object).to_owned(), ..Deletion::default() }
    }
}

/// What a user may ask of an API server. Failures are what it answered; no answer is a 503.
pub trait Api: Send + Sync + 'static {
    fn get<'a>(&'a self, kind: Kind, key: &'a Key) -> BoxFuture<'a, Result<Value, Status>>;

    /// All objects of a kind, in all namespaces.
    fn list(&self, kind: Kind) -> BoxFuture<'_, Result<List, Status>>;

    /// What happens to a kind after `version`, in all namespaces. 410 (also as an event of the stream): the server does not know
    /// that version any more.
    fn watch(&self, kind: Kind, version: u64) -> BoxFuture<'_, Result<Watch, Status>>;

    /// Makes an object in the namespace it names, or posts to a subresource.
    fn create<'a>(&'a self, kind: Kind, value: &'a Value) -> BoxFuture<'a, Result<Value, Status>>;

    /// Posts to a subresource of an object, such as `binding`.
    fn post<'a>(
        &'a self,
        kind: Kind,
        key: &'a Key,
        subresource: &'a str,
        value: &'a Value,
    ) -> BoxFuture<'a, Result<Value, Status>>;

    /// Replaces an object, or its subresource if that is not empty. 409 if `value` names another version than there is.
    fn update<'a>(
        &'a self,
        kind: Kind,
        value: &'a Value,
        subresource: &'a str,
    ) -> BoxFuture<'a, Result<Value, Status>>;

    /// Merges into an object, or its subresource if that is not empty (RFC 7386). 409 if the patch names another version or uid.
    fn patch<'a>(
        &'a self,
        kind: Kind,
        key: &'a Key,
        subresource: &'a str,
        patch: &'a Value,
    ) -> BoxFuture<'a, Result<Value, Status>>;

    /// Answers the object if it is still there, else a status.
    fn delete<'a>(
        &'a self,
        kind: Kind,
        key: &'a Key,
        options: &'a Deletion,
    ) -> BoxFuture<'a, Result<Value, Status>>;
}

/// The version of an object as a number (KEP-5504); 0 if it has none.
pub fn version(object: &Value) -> u64 {
    object::resource_version(object).parse().unwrap_or(0)
}
