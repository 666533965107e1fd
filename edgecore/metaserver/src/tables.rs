//! The database of MetaServer: lists and objects that clients asked for, who was allowed what, documents of the API server, and
//! writes that wait for the cloud.
//!
//! A file of its own beside the node's database: it can be lost, and grows and shrinks with what clients ask for. Bodies
//! of secrets are sealed as the node's database does it ([`metamanager::sealed`]).

mod changes;
mod kept;
mod lists;
pub(crate) mod queue;
mod rights;

use std::path::Path;

use apimachinery::Status;
use kubeapi::stored::{Key, Stored};
use metamanager::sealed::Seals;
use store::rusqlite::{self, OptionalExtension as _, params};
use store::{OpenError, Options, Recovery, Store, StoreError};

pub(crate) use changes::{Change, Difference};
#[cfg(test)]
pub(crate) use lists::Known;
pub(crate) use lists::State;
pub(crate) use rights::Right;

const TABLES: &str = "
CREATE TABLE lists (id INTEGER PRIMARY KEY AUTOINCREMENT, scope TEXT NOT NULL, complete INTEGER NOT NULL,
  revision INTEGER NOT NULL, seen INTEGER NOT NULL, asked INTEGER NOT NULL) STRICT;
CREATE UNIQUE INDEX lists_scope ON lists(scope) WHERE complete = 1;
CREATE TABLE objects (list INTEGER NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL,
  body TEXT NOT NULL) STRICT;
CREATE UNIQUE INDEX objects_place ON objects(list, namespace, name);
CREATE TABLE kept (place TEXT PRIMARY KEY, revision INTEGER NOT NULL, seen INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
CREATE INDEX kept_seen ON kept(seen);
CREATE TABLE rights (user TEXT NOT NULL, verb TEXT NOT NULL, resource TEXT NOT NULL, namespace TEXT NOT NULL,
  name TEXT NOT NULL, seen INTEGER NOT NULL, PRIMARY KEY (user, verb, resource, namespace, name)) STRICT, WITHOUT ROWID;
CREATE TABLE documents (name TEXT PRIMARY KEY, body TEXT NOT NULL, seen INTEGER NOT NULL) STRICT;
";

const QUEUE: &str = "
CREATE TABLE queue (id INTEGER PRIMARY KEY AUTOINCREMENT, message TEXT NOT NULL) STRICT;
CREATE TABLE tokens (place TEXT PRIMARY KEY, seen INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
";

const OPTIONS: Options = Options {
    migrations: &[TABLES, QUEUE],
    cache_kib: 128,
    log_pages: 400,
    readers: 1,
    taken_over: None,
    recovery: Recovery::Refill,
};

/// Handle of the database.
#[derive(Clone)]
pub(crate) struct Tables {
    store: Store,
    seals: Seals,
}

/// What could not be read or written, for the client.
pub(crate) fn trouble(error: &StoreError) -> Status {
    Status::internal(daemon::errors::describe(error))
}

impl Tables {
    /// Blocks.
    pub(crate) fn open(path: &Path, seals: Seals) -> Result<Tables, OpenError> {
        Ok(Tables { store: Store::open(path, &OPTIONS)?, seals })
    }

    /// Removes what a process that was killed had not finished.
    pub(crate) async fn tidy(&self) -> Result<(), StoreError> {
        self.store
            .write(|tx| {
                tx.execute("DELETE FROM lists WHERE complete = 0", [])?;
                tx.execute("DELETE FROM objects WHERE list NOT IN (SELECT id FROM lists)", []).map(drop)
            })
            .await
    }

    /// A document of the API server, and when it was read (Unix seconds).
    pub(crate) async fn document(&self, name: &'static str) -> Result<Option<(String, i64)>, StoreError> {
        self.store
            .read(move |db| {
                db.prepare_cached("SELECT body, seen FROM documents WHERE name = ?1")?
                    .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()
            })
            .await
    }

    pub(crate) async fn keep_document(
        &self,
        name: &'static str,
        body: String,
        seen: i64,
    ) -> Result<(), StoreError> {
        self.store
            .write(move |tx| {
                tx.execute("INSERT OR REPLACE INTO documents VALUES (?1, ?2, ?3)", params![name, body, seen])
                    .map(drop)
            })
            .await
    }
}

/// The row of a body, which sealing binds it to.
fn row_of(key: &Key) -> String {
    format!("metaserver/{}/{}/{}", key.resource, key.namespace, key.name)
}

fn closed(seals: &Seals, stored: &Stored) -> rusqlite::Result<String> {
    if stored.key.resource != "secrets" {
        return Ok(stored.body.as_ref().to_owned());
    }
    seals.close(&row_of(&stored.key), &stored.body)
}

/// `None`: it is sealed with a key that is not there any more.
fn opened(seals: &Seals, key: &Key, body: String) -> Option<String> {
    if key.resource == "secrets" { seals.open(&row_of(key), body) } else { Some(body) }
}

#[cfg(test)]
mod tests;
