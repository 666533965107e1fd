//! Objects, their revisions and the log of changes, in SQLite.
//!
//! Every change takes the next global revision, which is the object's `resourceVersion` and the log's key, so the log
//! has no gaps between its horizon and the current revision. What each change replaced is kept as long as the log tells of it, so
//! every revision since the horizon can be read as it was. Each body is stored once, by its revision, without `apiVersion` and
//! `kind`: a reader prefixes them (see [`kubeapi::render`]) and need not parse. Changes are announced from the store's
//! after-commit hook, in revision order.

mod body;
mod commit;
mod facets;
mod hub;
mod list;
mod read;

use std::path::Path;
use std::sync::Arc;

use apimachinery::Status;
use kubeapi::stored::Event;
use store::{OpenError, Options, Store, StoreError};

pub(crate) use commit::{Change, WriteError};
pub(crate) use hub::Followers;

/// Changes kept for watches to resume from.
pub(crate) const LOG_LENGTH: i64 = 10_000;

#[derive(Clone)]
pub(crate) struct Storage {
    store: Store,
    hub: Arc<hub::Hub>,
}

const MIGRATIONS: &[&str] = &[
    include_str!("storage/schema.sql"),
    include_str!("storage/history.sql"),
    include_str!("storage/bodies.sql"),
    include_str!("storage/owners.sql"),
];

impl Storage {
    /// Opens the database; `followers` hear of every change of what they are of. Blocks.
    pub(crate) fn open(path: &Path, followers: Followers) -> Result<Storage, OpenError> {
        let options = Options {
            migrations: MIGRATIONS,
            cache_kib: 2048,
            log_pages: 2000,
            readers: 4,
            taken_over: None,
            recovery: store::Recovery::Refuse,
        };
        let store = Store::open(path, &options)?;
        Ok(Storage { store, hub: Arc::new(hub::Hub::new(followers)) })
    }

    /// Events of one resource, or of all.
    pub(crate) fn subscribe(&self, resource: Option<&str>) -> tokio::sync::broadcast::Receiver<Arc<Event>> {
        self.hub.subscribe(resource)
    }

    /// Every change up to this revision has reached its subscribers' channels.
    pub(crate) fn announced(&self) -> i64 {
        self.hub.announced()
    }
}

/// What a client is told when the database fails.
pub(crate) fn store_failure(error: StoreError) -> Status {
    tracing::error!(error = %error, "database operation failed");
    if error.is_disk_full() {
        return Status::new(507, "InsufficientStorage", "the server's disk is full; the change was not made");
    }
    Status::internal(error.to_string())
}

#[cfg(test)]
mod tests;
