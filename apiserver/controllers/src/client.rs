//! What a controller writes with: the API as its own user, which remembers what was written until the caches show it.
//!
//! A controller that looked at the caches before they show its own last writes would do them again (upstream keeps
//! "expectations" for that, `pkg/controller/controller_utils.go`). Here every write is waited for by its version.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apimachinery::{Status, object};
use serde_json::Value;

use crate::api::{Api, Deletion, Key, Kind, version};
use crate::cache::Cache;
use crate::events::{Recorder, Said};

/// Longest that is waited for a write to show: then a watch is broken, and what is done next may be refused as stale.
const SHOWN: Duration = Duration::from_secs(10);
/// Longest an API server may take for an answer, webhooks included.
const ANSWER: Duration = Duration::from_secs(60);

/// A write that the caches may not show yet.
#[derive(Clone, Debug)]
enum Written {
    Version(Kind, u64),
    /// The object has another version than this one.
    Changed(Kind, Key, u64),
    /// The object with this uid is gone.
    Gone(Kind, Key, String),
}

/// The API as one controller has it.
pub struct Client {
    api: Arc<dyn Api>,
    cache: Arc<Cache>,
    written: Mutex<Vec<Written>>,
    recorder: Recorder,
}

impl Client {
    /// `component` is what events name as their source.
    pub fn new(api: Arc<dyn Api>, cache: Arc<Cache>, component: &'static str) -> Client {
        Client { api, cache, written: Mutex::default(), recorder: Recorder::new(component) }
    }

    fn written(&self) -> MutexGuard<'_, Vec<Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, kind: Kind, answer: &Value) {
        let version = version(answer);
        if version > 0 && self.cache.find(kind).is_some() {
            self.written().push(Written::Version(kind, version));
        }
    }

    /// Waits until the caches show all that was written.
    pub async fn settle(&self) {
        let written = std::mem::take(&mut *self.written());
        let shown = async {
            for one in written {
                self.shown(&one).await;
            }
        };
        if tokio::time::timeout(SHOWN, shown).await.is_err() {
            tracing::warn!(
                "what a controller wrote does not show within {SHOWN:?}; it goes on with what it knows"
            );
        }
    }

    async fn shown(&self, written: &Written) {
        let (Written::Version(kind, _) | Written::Changed(kind, ..) | Written::Gone(kind, ..)) = written;
        let Some(store) = self.cache.find(kind) else { return };
        let mut progress = store.progress();
        loop {
            progress.borrow_and_update();
            let is_shown = match written {
                Written::Version(_, version) => store.reached() >= *version,
                Written::Changed(_, key, version) => {
                    store.entry(key).is_none_or(|entry| entry.version != *version)
                }
                Written::Gone(_, key, uid) => store.entry(key).is_none_or(|entry| *entry.uid != **uid),
            };
            if is_shown || progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// # Errors
    /// What the API server said.
    pub async fn get(&self, kind: Kind, key: &Key) -> Result<Value, Status> {
        within(self.api.get(kind, key)).await
    }

    /// # Errors
    /// What the API server said.
    pub async fn create(&self, kind: Kind, value: &Value) -> Result<Value, Status> {
        let made = within(self.api.create(kind, value)).await?;
        self.note(kind, &made);
        Ok(made)
    }

    /// Posts to a subresource that changes its object.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn post(
        &self,
        kind: Kind,
        object: &Value,
        subresource: &str,
        value: &Value,
    ) -> Result<(), Status> {
        let key = Key::of(object);
        within(self.api.post(kind, &key, subresource, value)).await?;
        if self.cache.find(kind).is_some() {
            self.written().push(Written::Changed(kind, key, version(object)));
        }
        Ok(())
    }

    /// # Errors
    /// What the API server said: 409 if somebody else changed it.
    pub async fn update(&self, kind: Kind, value: &Value) -> Result<Value, Status> {
        let made = within(self.api.update(kind, value, "")).await?;
        self.note(kind, &made);
        Ok(made)
    }

    /// Replaces a part of an object that is not its status, such as `approval`.
    ///
    /// # Errors
    /// What the API server said: 409 if somebody else changed it.
    pub async fn update_part(&self, kind: Kind, value: &Value, subresource: &str) -> Result<Value, Status> {
        let made = within(self.api.update(kind, value, subresource)).await?;
        self.note(kind, &made);
        Ok(made)
    }

    /// Gives an object this status, unless it has it.
    ///
    /// # Errors
    /// What the API server said: 409 if somebody else changed it.
    pub async fn update_status(&self, kind: Kind, object: &Value, status: Value) -> Result<(), Status> {
        if object["status"] == status {
            return Ok(());
        }
        let mut changed = object.clone();
        changed["status"] = status;
        let made = within(self.api.update(kind, &changed, "status")).await?;
        self.note(kind, &made);
        Ok(())
    }

    /// A merge patch of an object, or of its subresource if that is not empty.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn patch(
        &self,
        kind: Kind,
        key: &Key,
        subresource: &str,
        patch: &Value,
    ) -> Result<Value, Status> {
        let made = within(self.api.patch(kind, key, subresource, patch)).await?;
        self.note(kind, &made);
        Ok(made)
    }

    /// Deletes this very object; that it is gone already is no failure.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn delete(&self, kind: Kind, object: &Value) -> Result<(), Status> {
        self.delete_with(kind, object, &Deletion { propagation: "Background", ..Deletion::of(object) }).await
    }

    /// The same, with options.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn delete_with(&self, kind: Kind, object: &Value, options: &Deletion) -> Result<(), Status> {
        let key = Key::of(object);
        match within(self.api.delete(kind, &key, options)).await {
            Ok(answer) if object::uid(&answer) == object::uid(object) && object::deleting(&answer) => {
                self.note(kind, &answer);
                Ok(())
            }
            Ok(_) => {
                if self.cache.find(kind).is_some() {
                    self.written().push(Written::Gone(kind, key, object::uid(object).to_owned()));
                }
                Ok(())
            }
            Err(status) if status.is_not_found() => Ok(()),
            Err(status) => Err(status),
        }
    }

    /// Makes `owner` the controller of an object, or takes it out of it.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn patch_object(&self, kind: Kind, object: &Value, patch: Value) -> Result<(), Status> {
        self.patch(kind, &Key::of(object), "", &patch).await.map(drop)
    }

    /// Tells users of something that happened to an object. One that cannot be written is lost: events are for people.
    pub async fn event(&self, kind: Kind, object: &Value, what: Said<'_>) {
        self.recorder.record(self.api.as_ref(), kind, object, what).await;
    }
}

async fn within<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = || Status::unavailable(format!("no answer within {ANSWER:?}"));
    tokio::time::timeout(ANSWER, answer).await.unwrap_or_else(|_| Err(late()))
}
