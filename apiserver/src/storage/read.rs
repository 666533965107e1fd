//! Reading: one object, the log, and the indexes of the collector.

use apimachinery::traits::Traits;
use apimachinery::{Status, object};
use kubeapi::stored::{Event, EventKind, Key, ListQuery, Replay, Stored};
use store::rusqlite::{self, Connection, OptionalExtension, Row, params};

use super::{Followers, LOG_LENGTH, Storage, store_failure};

/// Events one read of the log returns at most, so that a far-behind watch does not hold it all in memory.
const REPLAY: i64 = 256;

pub(super) fn current(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT current FROM revision")?.query_row([], |row| row.get(0))
}

/// The oldest revision that can be read as it was.
pub(super) fn horizon(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT max(floor, current - ?1) FROM revision")?
        .query_row([LOG_LENGTH], |row| row.get(0))
}

pub(super) fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let key = Key { resource: row.get(0)?, namespace: row.get(1)?, name: row.get(2)? };
    let body = row.get_ref(4)?.as_str()?.into();
    Ok(Stored { key, revision: row.get(3)?, body })
}

impl Storage {
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.store.read(work).await.map_err(store_failure)
    }

    /// Like [`Storage::read`], for `work` that looks up a few rows by an index.
    async fn look_up<T, F>(&self, work: F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.store.look_up(work).await.map_err(store_failure)
    }

    pub(crate) async fn revision(&self) -> Result<i64, Status> {
        self.look_up(current).await
    }

    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Stored>, Status> {
        let key = key.clone();
        self.look_up(move |connection| one(connection, &key)).await
    }

    /// An object that is about to be changed, maybe not on disk yet; who answers without a change calls [`Storage::settle`] first.
    pub(crate) async fn get_to_change(&self, key: &Key) -> Result<Option<Stored>, Status> {
        let key = key.clone();
        self.store.peek(move |connection| one(connection, &key)).await.map_err(store_failure)
    }

    /// Until all that was read is on disk.
    pub(crate) async fn settle(&self) {
        self.store.settle().await;
    }

    /// Changes of `resource` after `since`.
    pub(crate) async fn replay(&self, resource: &str, since: i64) -> Result<Replay, Status> {
        let resource = resource.to_owned();
        self.read(move |connection| {
            let snapshot = connection.unchecked_transaction()?;
            let revision = current(&snapshot)?;
            if since < horizon(&snapshot)? || since > revision {
                return Ok(Replay::Expired(revision));
            }
            let mut statement = snapshot.prepare_cached(
                "SELECT resource, namespace, name, log.revision, made.body, kind, replaced.body
                 FROM log JOIN bodies AS made USING (revision) LEFT JOIN bodies AS replaced ON replaced.revision = was
                 WHERE resource = ?1 AND log.revision > ?2 ORDER BY log.revision LIMIT ?3",
            )?;
            let events = statement
                .query_map(params![resource, since, REPLAY], logged)?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            let full = events.len() as i64 == REPLAY;
            let reached = events.last().filter(|_| full).map_or(revision, |event| event.stored.revision);
            Ok(Replay::Events(events, reached))
        })
        .await
    }

    /// What the change that made `stored` replaced, with that change's revision; `None` if it is not in the log any more.
    pub(crate) async fn before(&self, stored: &Stored) -> Result<Option<Stored>, Status> {
        let (key, revision) = (stored.key.clone(), stored.revision);
        let replaced = self
            .look_up(move |connection| {
                let mut found = connection.prepare_cached(
                    "SELECT body FROM log JOIN bodies ON bodies.revision = was WHERE log.revision = ?1",
                )?;
                found.query_row([revision], |row| row.get::<_, String>(0)).optional()
            })
            .await?;
        let Some(body) = replaced else { return Ok(None) };
        let mut value = Stored { key: key.clone(), revision, body: body.into() }.value()?;
        object::metadata(&mut value).insert("resourceVersion".to_owned(), revision.to_string().into());
        Ok(Some(Stored { key, revision, body: value.to_string().into() }))
    }

    /// Keys of the objects that name `owner` in their ownerReferences.
    pub(crate) async fn dependents(&self, owner: &str) -> Result<Vec<Key>, Status> {
        let owner = owner.to_owned();
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT resource, namespace, name FROM owners WHERE owner = ?1")?
                .query_map([owner], key)?
                .collect()
        })
        .await
    }

    /// Keys of objects with an owner that does not exist.
    pub(crate) async fn orphans(&self) -> Result<Vec<Key>, Status> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT DISTINCT resource, namespace, name FROM owners
                     WHERE owner NOT IN (SELECT uid FROM objects)",
                )?
                .query_map([], key)?
                .collect()
        })
        .await
    }

    /// Keys of all objects whose text has `words`. Reads everything.
    pub(crate) async fn that_say(&self, words: &str) -> Result<Vec<Key>, Status> {
        let words = words.to_owned();
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT resource, namespace, name FROM objects JOIN bodies USING (revision)
                     WHERE instr(body, ?1) > 0",
                )?
                .query_map([words], key)?
                .collect()
        })
        .await
    }

    /// The key of the object with this uid. Reads all keys: for references that say nothing else.
    pub(crate) async fn by_uid(&self, uid: &str) -> Result<Option<Key>, Status> {
        let uid = uid.to_owned();
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT resource, namespace, name FROM objects WHERE uid = ?1")?
                .query_row([uid], key)
                .optional()
        })
        .await
    }

    /// True if the object of this key has this uid.
    pub(crate) async fn is(&self, key: &Key, uid: &str) -> Result<bool, Status> {
        let (key, uid) = (key.clone(), uid.to_owned());
        self.look_up(move |connection| {
            connection
                .prepare_cached(
                    "SELECT 1 FROM objects WHERE resource = ?1 AND namespace = ?2 AND name = ?3 AND uid = ?4",
                )?
                .exists(params![key.resource, key.namespace, key.name, uid])
        })
        .await
    }

    /// Keys of everything in a namespace.
    pub(crate) async fn contents(&self, namespace: &str) -> Result<Vec<Key>, Status> {
        let namespace = namespace.to_owned();
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT resource, namespace, name FROM objects WHERE namespace = ?1")?
                .query_map([namespace], key)?
                .collect()
        })
        .await
    }

    /// Tells the followers of what is stored. Call once, after opening.
    pub(crate) async fn load(&self) -> Result<(), Status> {
        for resource in Followers::resources() {
            for stored in self.list(ListQuery { resource, ..ListQuery::default() }).await?.items {
                let traits = Traits::of(&stored.key.resource, &stored.value()?);
                self.hub.followers().hear(&stored, EventKind::Added, &traits);
            }
        }
        Ok(())
    }
}

fn one(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Stored>> {
    connection
        .prepare_cached(
            "SELECT resource, namespace, name, revision, body FROM objects JOIN bodies USING (revision)
             WHERE resource = ?1 AND namespace = ?2 AND name = ?3",
        )?
        .query_row(params![key.resource, key.namespace, key.name], stored)
        .optional()
}

fn key(row: &Row<'_>) -> rusqlite::Result<Key> {
    Ok(Key { resource: row.get(0)?, namespace: row.get(1)?, name: row.get(2)? })
}

fn logged(row: &Row<'_>) -> rusqlite::Result<Event> {
    let stored = stored(row)?;
    let kind: String = row.get(5)?;
    let before: Option<String> = row.get(6)?;
    let traits = |body: &str| {
        let object = serde_json::from_str(body).unwrap_or_default();
        Traits::of(&stored.key.resource, &object)
    };
    let (now, previous) = (traits(&stored.body), before.as_deref().map(traits));
    Ok(Event { kind: EventKind::parse(&kind), traits: now, previous, stored })
}
