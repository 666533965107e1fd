//! Writing: each change is conditional, takes a revision, and is logged in the same transaction.

use std::sync::Arc;

use apimachinery::traits::Traits;
use apimachinery::{Status, object};
use kubeapi::registry::Resource;
use kubeapi::stored::{Event, EventKind, Key, Stored};
use serde_json::Value;
use store::rusqlite::{self, OptionalExtension, Transaction, params};

use super::body::Body;
use super::{LOG_LENGTH, Storage, facets, store_failure};

/// A change of one object. Values come without `apiVersion` and `kind`.
pub(crate) enum Change {
    Create(Value),
    /// Replaces the object if its revision is `expected`.
    Update {
        value: Value,
        expected: i64,
        previous: Traits,
    },
    /// Removes the object if its revision is `expected`; `value` is its last state.
    Delete {
        value: Value,
        expected: i64,
        previous: Traits,
    },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("the object exists already")]
    Exists,
    #[error("the object does not exist")]
    Missing,
    #[error("the object has another revision than expected")]
    Stale,
    #[error("the database failed")]
    Store(Status),
}

impl WriteError {
    pub(crate) fn into_status(self, resource: &Resource, name: &str) -> Status {
        match self {
            WriteError::Exists => Status::already_exists(&resource.group, &resource.plural, name),
            WriteError::Missing => Status::not_found(&resource.group, &resource.plural, name),
            WriteError::Stale => Status::stale(&resource.group, &resource.plural, name),
            WriteError::Store(status) => status,
        }
    }
}

/// Lists and maps in each other. Readers of JSON stop at 127, and lists, events and messages put some around.
const LEVELS: usize = 120;

impl Storage {
    /// Makes one change and announces it. What nests too deeply to be read again is refused with 400.
    pub(crate) async fn commit(&self, key: Key, change: Change) -> Result<Stored, WriteError> {
        if let Change::Create(value) | Change::Update { value, .. } = &change
            && !object::nests_within(value, LEVELS)
        {
            let why = format!("the object, with the record of its fields, nests deeper than {LEVELS} levels");
            return Err(WriteError::Store(Status::bad_request(why)));
        }
        let write = Write::of(key, change);
        let hub = self.hub.clone();
        let outcome = self
            .store
            // Nothing is changed before all is known to be as expected.
            .write_checked(
                move |transaction| apply(transaction, write),
                move |outcome: &CommitResult| {
                    if let Ok(event) = outcome {
                        hub.announce(event.clone());
                    }
                },
            )
            .await
            .map_err(|error| WriteError::Store(store_failure(error)))?;
        outcome.map(|event| event.stored.clone())
    }
}

/// Changes between two prunings of the log.
const PRUNED: i64 = 64;

type CommitResult = Result<Arc<Event>, WriteError>;

/// A change with all that can be made of it before its turn: writers wait for each other, those who make this do not.
struct Write {
    key: Key,
    kind: EventKind,
    /// The revision that is replaced; `None`: there is none.
    expected: Option<i64>,
    body: Body,
    uid: String,
    owners: Vec<String>,
    traits: Traits,
    previous: Option<Traits>,
}

impl Write {
    fn of(key: Key, change: Change) -> Write {
        let (kind, value, replaced) = match change {
            Change::Create(value) => (EventKind::Added, value, None),
            Change::Update { value, expected, previous } => {
                (EventKind::Modified, value, Some((expected, previous)))
            }
            Change::Delete { value, expected, previous } => {
                (EventKind::Deleted, value, Some((expected, previous)))
            }
        };
        let (expected, previous) = replaced.unzip();
        let owners = object::list(&value, "/metadata/ownerReferences").iter();
        Write {
            kind,
            expected,
            body: Body::of(&value),
            uid: object::uid(&value).to_owned(),
            owners: owners.map(|owner| object::text(owner, "/uid").to_owned()).collect(),
            traits: Traits::of(&key.resource, &value),
            previous,
            key,
        }
    }
}

fn apply(transaction: &Transaction<'_>, write: Write) -> rusqlite::Result<CommitResult> {
    let key = &write.key;
    let found: Option<i64> = transaction
        .prepare_cached("SELECT revision FROM objects WHERE resource = ?1 AND namespace = ?2 AND name = ?3")?
        .query_row(params![key.resource, key.namespace, key.name], |row| row.get(0))
        .optional()?;
    match (write.expected, found) {
        (None, Some(_)) => return Ok(Err(WriteError::Exists)),
        (Some(_), None) => return Ok(Err(WriteError::Missing)),
        (Some(expected), Some(found)) if expected != found => return Ok(Err(WriteError::Stale)),
        _ => {}
    }
    let revision: i64 = transaction
        .prepare_cached("UPDATE revision SET current = current + 1 RETURNING current")?
        .query_row([], |row| row.get(0))?;
    let body = write.body.at(revision);
    transaction
        .prepare_cached("INSERT INTO bodies (revision, body) VALUES (?1, ?2)")?
        .execute(params![revision, body])?;
    transaction
        .prepare_cached(
            "INSERT INTO log (revision, resource, namespace, name, kind, was) VALUES (?1,?2,?3,?4,?5,?6)",
        )?
        .execute(params![revision, key.resource, key.namespace, key.name, write.kind.as_str(), found])?;
    if revision % PRUNED == 0 {
        prune(transaction, revision - LOG_LENGTH)?;
    }
    write_object(transaction, &write, revision)?;
    let Write { key, kind, traits, previous, .. } = write;
    facets::note(transaction, &key, previous.as_ref(), Some(&traits).filter(|_| kind != EventKind::Deleted))?;
    let stored = Stored { key, revision, body: body.into() };
    Ok(Ok(Arc::new(Event { kind, stored, traits, previous })))
}

/// Takes changes up to `horizon` out of the log, with what they replaced or deleted.
fn prune(transaction: &Transaction<'_>, horizon: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "DELETE FROM bodies WHERE revision IN (
                 SELECT was FROM log WHERE revision <= ?1 AND was IS NOT NULL
                 UNION ALL SELECT revision FROM log WHERE revision <= ?1 AND kind = 'DELETED')",
        )?
        .execute([horizon])?;
    transaction.prepare_cached("DELETE FROM log WHERE revision <= ?1")?.execute([horizon]).map(drop)
}

fn write_object(transaction: &Transaction<'_>, write: &Write, revision: i64) -> rusqlite::Result<()> {
    let key = &write.key;
    let place = params![key.resource, key.namespace, key.name];
    if write.kind != EventKind::Added {
        transaction
            .prepare_cached("DELETE FROM owners WHERE resource = ?1 AND namespace = ?2 AND name = ?3")?
            .execute(place)?;
    }
    match write.kind {
        EventKind::Deleted => {
            transaction
                .prepare_cached("DELETE FROM objects WHERE resource = ?1 AND namespace = ?2 AND name = ?3")?
                .execute(place)?;
            return Ok(());
        }
        EventKind::Added => transaction
            .prepare_cached(
                "INSERT INTO objects (resource, namespace, name, uid, revision) VALUES (?1,?2,?3,?4,?5)",
            )?
            .execute(params![key.resource, key.namespace, key.name, write.uid, revision])?,
        EventKind::Modified => transaction
            .prepare_cached(
                "UPDATE objects SET revision = ?4 WHERE resource = ?1 AND namespace = ?2 AND name = ?3",
            )?
            .execute(params![key.resource, key.namespace, key.name, revision])?,
    };
    for owner in &write.owners {
        transaction
            .prepare_cached("INSERT INTO owners (owner, resource, namespace, name) VALUES (?1,?2,?3,?4)")?
            .execute(params![owner, key.resource, key.namespace, key.name])?;
    }
    Ok(())
}
