//! Whole lists: each the state of a scope at a revision. One that is being read is incomplete, and seen by nobody, until
//! its last page is there; it then takes the place of the one before in one transaction.

use std::collections::BTreeMap;

use kubeapi::stored::{Key, Stored};
use store::rusqlite::{Connection, OptionalExtension as _, params};
use store::{StoreError, rusqlite};

use super::changes::{Change, Difference, differences};
use super::{Tables, closed, opened};
use crate::scope::Scope;

/// A complete list, without its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub id: i64,
    pub revision: i64,
    /// When it was known to be the newest, in Unix seconds.
    pub seen: i64,
}

/// A complete list.
pub(crate) struct State {
    pub known: Known,
    /// By namespace and name.
    pub items: Vec<Stored>,
}

fn known(db: &Connection, scope: &str) -> rusqlite::Result<Option<Known>> {
    db.prepare_cached("SELECT id, revision, seen FROM lists WHERE scope = ?1 AND complete = 1")?
        .query_row([scope], |row| Ok(Known { id: row.get(0)?, revision: row.get(1)?, seen: row.get(2)? }))
        .optional()
}

fn remove(tx: &Connection, id: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM objects WHERE list = ?1")?.execute([id])?;
    tx.prepare_cached("DELETE FROM lists WHERE id = ?1")?.execute([id]).map(drop)
}

impl Tables {
    pub(crate) async fn known(&self, scope: &Scope) -> Result<Option<Known>, StoreError> {
        let scope = scope.text();
        self.store.read(move |db| known(db, &scope)).await
    }

    /// The state of a scope; `None` if there is none, or it cannot be read any more.
    pub(crate) async fn state(&self, scope: &Scope) -> Result<Option<State>, StoreError> {
        let (text, resource, seals) = (scope.text(), scope.resource.clone(), self.seals.clone());
        self.store
            .read(move |db| {
                // One snapshot for both.
                let db = db.unchecked_transaction()?;
                let Some(known) = known(&db, &text)? else { return Ok(None) };
                let mut statement = db.prepare_cached(
                    "SELECT namespace, name, revision, body FROM objects WHERE list = ?1 ORDER BY namespace, name",
                )?;
                let rows = statement.query_map([known.id], |row| {
                    let key = Key::new(&resource, &row.get::<_, String>(0)?, &row.get::<_, String>(1)?);
                    Ok((key, row.get(2)?, row.get::<_, String>(3)?))
                })?;
                let mut items = Vec::new();
                for row in rows {
                    let (key, revision, body) = row?;
                    let Some(body) = opened(&seals, &key, body) else { return Ok(None) };
                    items.push(Stored { key, revision, body: body.into() });
                }
                Ok(Some(State { known, items }))
            })
            .await
    }

    /// One object of the state of a scope. `None`: there is no state; `Some(_, None)`: it is not in it.
    pub(crate) async fn member(
        &self,
        scope: &Scope,
        key: &Key,
    ) -> Result<Option<(Known, Option<Stored>)>, StoreError> {
        let (text, key, seals) = (scope.text(), key.clone(), self.seals.clone());
        self.store
            .read(move |db| {
                let db = db.unchecked_transaction()?;
                let Some(known) = known(&db, &text)? else { return Ok(None) };
                let found: Option<(i64, String)> = db
                    .prepare_cached(
                        "SELECT revision, body FROM objects WHERE list = ?1 AND namespace = ?2 AND name = ?3",
                    )?
                    .query_row(params![known.id, key.namespace, key.name], |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })
                    .optional()?;
                let Some((revision, body)) = found else { return Ok(Some((known, None))) };
                let Some(body) = opened(&seals, &key, body) else { return Ok(None) };
                Ok(Some((known, Some(Stored { key, revision, body: body.into() }))))
            })
            .await
    }

    /// The newest of an object in any complete list of its resource, whatever the list is of; and when that was.
    pub(crate) async fn anywhere(&self, of: &Scope, key: &Key) -> Result<Option<(Stored, i64)>, StoreError> {
        let (of, key, seals) = (of.clone(), key.clone(), self.seals.clone());
        self.store
            .read(move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT lists.scope, lists.seen, objects.revision, objects.body FROM lists
                       JOIN objects ON objects.list = lists.id
                       WHERE lists.complete = 1 AND objects.namespace = ?1 AND objects.name = ?2
                       ORDER BY objects.revision DESC",
                )?;
                let mut rows = statement.query(params![key.namespace, key.name])?;
                while let Some(row) = rows.next()? {
                    let scope: Option<Scope> = serde_json::from_str(row.get_ref(0)?.as_str()?).ok();
                    let is_it = |scope: &Scope| {
                        (&scope.resource, &scope.api_version) == (&of.resource, &of.api_version)
                    };
                    if !scope.as_ref().is_some_and(is_it) {
                        continue;
                    }
                    let (seen, revision) = (row.get(1)?, row.get(2)?);
                    let Some(body) = opened(&seals, &key, row.get(3)?) else { continue };
                    return Ok(Some((Stored { key, revision, body: body.into() }, seen)));
                }
                Ok(None)
            })
            .await
    }

    /// Begins a list that nobody sees yet.
    pub(crate) async fn begin(&self, scope: &Scope) -> Result<i64, StoreError> {
        let scope = scope.text();
        self.store
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO lists(scope, complete, revision, seen, asked) VALUES (?1, 0, 0, 0, 0)",
                    [scope],
                )?;
                Ok(tx.last_insert_rowid())
            })
            .await
    }

    /// Adds a page.
    pub(crate) async fn add(&self, id: i64, items: Vec<Stored>) -> Result<(), StoreError> {
        let seals = self.seals.clone();
        self.store.write(move |tx| put_all(tx, id, &items, &seals)).await
    }

    /// Gives up a list that was begun.
    pub(crate) async fn abandon(&self, id: i64) -> Result<(), StoreError> {
        self.store.write(move |tx| remove(tx, id)).await
    }

    /// The list is whole at `revision` (and `now`): it takes the place of the one before. With the differences to the list
    /// `before`, if they are asked for, that one is still there, and there are few.
    pub(crate) async fn finish(
        &self,
        scope: &Scope,
        id: i64,
        (revision, now): (i64, i64),
        before: Option<i64>,
    ) -> Result<(Known, Option<Vec<Difference>>), StoreError> {
        let (scope, resource, seals) = (scope.text(), scope.resource.clone(), self.seals.clone());
        self.store
            .write(move |tx| {
                let differences = match before {
                    Some(before) if known(tx, &scope)?.is_some_and(|known| known.id == before) => {
                        differences(tx, (before, id), &resource, &seals)?
                    }
                    _ => None,
                };
                Ok((take_place(tx, &scope, id, revision, now)?, differences))
            })
            .await
    }

    /// Keeps a list that came in one piece.
    pub(crate) async fn replace(
        &self,
        scope: &Scope,
        items: Vec<Stored>,
        revision: i64,
        now: i64,
    ) -> Result<Known, StoreError> {
        let (scope, seals) = (scope.text(), self.seals.clone());
        self.store
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO lists(scope, complete, revision, seen, asked) VALUES (?1, 0, 0, 0, 0)",
                    [&scope],
                )?;
                let id = tx.last_insert_rowid();
                put_all(tx, id, &items, &seals)?;
                take_place(tx, &scope, id, revision, now)
            })
            .await
    }

    /// Applies changes in their order, up to `revision`. Answers what each object was before; `None`: the list is not
    /// there any more.
    pub(crate) async fn apply(
        &self,
        id: i64,
        changes: Vec<Change>,
        revision: i64,
        now: i64,
    ) -> Result<Option<(Vec<Change>, Vec<Option<String>>)>, StoreError> {
        let seals = self.seals.clone();
        self.store
            .write(move |tx| {
                let updated = tx
                    .prepare_cached(
                        "UPDATE lists SET revision = ?2, seen = ?3 WHERE id = ?1 AND complete = 1",
                    )?
                    .execute(params![id, revision, now])?;
                if updated == 0 {
                    return Ok(None);
                }
                let mut before = Vec::with_capacity(changes.len());
                for change in &changes {
                    let key = &change.stored().key;
                    let old: Option<String> = tx
                        .prepare_cached(
                            "SELECT body FROM objects WHERE list = ?1 AND namespace = ?2 AND name = ?3",
                        )?
                        .query_row(params![id, key.namespace, key.name], |row| row.get(0))
                        .optional()?;
                    before.push(old.and_then(|old| opened(&seals, key, old)));
                    match change {
                        Change::Put(stored) => put(tx, id, stored, &seals)?,
                        Change::Remove(_) => {
                            tx.prepare_cached(
                                "DELETE FROM objects WHERE list = ?1 AND namespace = ?2 AND name = ?3",
                            )?
                            .execute(params![id, key.namespace, key.name])?;
                        }
                    }
                }
                Ok(Some((changes, before)))
            })
            .await
    }

    /// Nothing else happened up to this revision; `now`, if it is the newest state at this time.
    pub(crate) async fn seen(&self, id: i64, revision: i64, now: Option<i64>) -> Result<(), StoreError> {
        self.store
            .write(move |tx| {
                tx.prepare_cached(
                    "UPDATE lists SET revision = max(revision, ?2), seen = coalesce(?3, seen) WHERE id = ?1",
                )?
                .execute(params![id, revision, now])
                .map(drop)
            })
            .await
    }

    /// Somebody asked for it.
    pub(crate) async fn asked(&self, scope: &Scope, now: i64) -> Result<(), StoreError> {
        let scope = scope.text();
        let stale = self
            .store
            .read({
                let scope = scope.clone();
                move |db| {
                    let asked: Option<i64> = db
                        .prepare_cached("SELECT asked FROM lists WHERE scope = ?1 AND complete = 1")?
                        .query_row([scope], |row| row.get(0))
                        .optional()?;
                    Ok(asked.is_some_and(|asked| now - asked >= 60 || asked > now))
                }
            })
            .await?;
        if !stale {
            return Ok(());
        }
        self.store
            .write(move |tx| {
                tx.execute(
                    "UPDATE lists SET asked = ?2 WHERE scope = ?1 AND complete = 1",
                    params![scope, now],
                )
                .map(drop)
            })
            .await
    }

    /// How much the list `id` holds: objects and bytes.
    pub(crate) async fn size(&self, id: i64) -> Result<(i64, i64), StoreError> {
        self.store
            .read(move |db| {
                db.query_row(
                    "SELECT count(*), coalesce(sum(length(body)), 0) FROM objects WHERE list = ?1",
                    [id],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
            })
            .await
    }

    /// Removes lists beyond these bounds, or that nobody asked for since `since`, least recently asked first; those of
    /// `live` stay.
    pub(crate) async fn shrink(
        &self,
        live: Vec<i64>,
        since: i64,
        (most_lists, most_objects, most_bytes): (i64, i64, i64),
    ) -> Result<(), StoreError> {
        self.store
            .write(move |tx| {
                let mut sizes: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
                let mut statement =
                    tx.prepare_cached("SELECT list, count(*), sum(length(body)) FROM objects GROUP BY list")?;
                let rows = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
                for row in rows {
                    let (id, size) = row?;
                    sizes.insert(id, size);
                }
                let mut statement =
                    tx.prepare_cached("SELECT id, asked FROM lists WHERE complete = 1 ORDER BY asked, id")?;
                let lists = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                let lists: Vec<(i64, i64)> = lists.collect::<Result<_, _>>()?;
                let (mut count, mut objects, mut bytes) =
                    (i64::try_from(lists.len()).unwrap_or(i64::MAX), 0, 0);
                for (more_objects, more_bytes) in sizes.values() {
                    objects += more_objects;
                    bytes += more_bytes;
                }
                for (id, asked) in lists {
                    let too_much = count > most_lists || objects > most_objects || bytes > most_bytes;
                    if live.contains(&id) || !(too_much || asked < since) {
                        continue;
                    }
                    let (fewer_objects, fewer_bytes) = sizes.get(&id).copied().unwrap_or_default();
                    (count, objects, bytes) = (count - 1, objects - fewer_objects, bytes - fewer_bytes);
                    remove(tx, id)?;
                }
                Ok(())
            })
            .await
    }
}

fn put(
    tx: &Connection,
    id: i64,
    stored: &Stored,
    seals: &metamanager::sealed::Seals,
) -> rusqlite::Result<()> {
    let (key, body) = (&stored.key, closed(seals, stored)?);
    tx.prepare_cached(
        "INSERT INTO objects VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT(list, namespace, name)
           DO UPDATE SET revision = excluded.revision, body = excluded.body",
    )?
    .execute(params![id, key.namespace, key.name, stored.revision, body])
    .map(drop)
}

fn put_all(
    tx: &Connection,
    id: i64,
    items: &[Stored],
    seals: &metamanager::sealed::Seals,
) -> rusqlite::Result<()> {
    items.iter().try_for_each(|stored| put(tx, id, stored, seals))
}

fn take_place(tx: &Connection, scope: &str, id: i64, revision: i64, now: i64) -> rusqlite::Result<Known> {
    let asked: Option<i64> = tx
        .prepare_cached("SELECT asked FROM lists WHERE scope = ?1 AND complete = 1")?
        .query_row([scope], |row| row.get(0))
        .optional()?;
    if let Some(before) = known(tx, scope)? {
        remove(tx, before.id)?;
    }
    tx.prepare_cached("UPDATE lists SET complete = 1, revision = ?2, seen = ?3, asked = ?4 WHERE id = ?1")?
        .execute(params![id, revision, now, asked.unwrap_or(now).max(now)])?;
    Ok(Known { id, revision, seen: now })
}
