//! The stored objects: table `meta`, keyed by wire resource.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use message::{Json, ObjectKey, ObjectKind, ResourceVersion};
use native::Digest;
use native::frames::{Delta, Held, KindDigest};
use store::rusqlite::{Connection, OptionalExtension, Row, params};
use store::{Store, StoreError};
use tokio::sync::broadcast;

/// What happened to one object.
#[derive(Clone, Debug)]
pub struct ObjectChange {
    pub key: ObjectKey,
    pub change: Change,
}

#[derive(Clone, Debug)]
pub enum Change {
    /// The object is now this.
    Put { version: ResourceVersion, object: Json },
    /// The object is gone; with a uid, only the object of that uid.
    Remove { uid: Option<String> },
}

/// A change as it came over the link.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub key: ObjectKey,
    /// The sender's mark of the object's meaning; 0 if it has none.
    pub mark: u64,
    pub body: Body,
}

#[derive(Clone, Debug)]
pub enum Body {
    Put {
        version: ResourceVersion,
        object: Json,
    },
    /// The difference to the stored text.
    Differ {
        version: ResourceVersion,
        delta: Delta,
    },
    Remove {
        uid: Option<String>,
    },
}

/// What a transaction did.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// Changes that changed something.
    pub changed: Vec<ObjectChange>,
    /// Places of the arrivals whose difference fits no stored text.
    pub base_missing: Vec<usize>,
}

/// A stored object.
#[derive(Clone, Debug)]
pub struct StoredObject {
    pub key: ObjectKey,
    pub uid: String,
    pub version: ResourceVersion,
    pub object: Json,
}

/// Handle of the object table.
#[derive(Clone)]
pub struct Objects {
    store: Store,
    arrived: broadcast::Sender<ObjectKey>,
    /// The disk is about to be wiped of what was deleted.
    wipes: Arc<AtomicBool>,
}

/// How long what was deleted of a secret may stay on disk.
const WIPE: Duration = Duration::from_secs(2);

/// Keys of objects that were stored; clones of a handle share them.
pub type Arrivals = broadcast::Receiver<ObjectKey>;

/// Arrivals a slow reader may have waiting; one that missed some looks for itself.
const ARRIVALS: usize = 64;

impl Objects {
    pub fn new(store: Store) -> Objects {
        Objects { store, arrived: broadcast::channel(ARRIVALS).0, wipes: Arc::default() }
    }

    /// What is stored from now on.
    pub fn arrivals(&self) -> Arrivals {
        self.arrived.subscribe()
    }

    pub async fn get(&self, key: &ObjectKey) -> Result<Option<StoredObject>, StoreError> {
        let path = key.to_string();
        self.store
            .read(move |db| {
                db.prepare_cached("SELECT key, value, uid, version FROM meta WHERE key = ?1")?
                    .query_row([path], read_row)
                    .optional()
            })
            .await
            .map(Option::flatten)
    }

    pub async fn list(&self, kind: &ObjectKind) -> Result<Vec<StoredObject>, StoreError> {
        let kind = kind.to_string();
        self.store.read(move |db| list(db, &kind)).await
    }

    /// Applies changes in one transaction, in order. Returns those that changed something: an older or equal version
    /// of the same object, and the removal of another uid, change nothing.
    pub async fn apply(&self, changes: Vec<ObjectChange>) -> Result<Vec<ObjectChange>, StoreError> {
        let arrivals = changes.into_iter().map(Arrival::from).collect();
        Ok(self.commit(arrivals).await?.changed)
    }

    /// Like [`Objects::apply`], for what came over the link.
    pub async fn commit(&self, arrivals: Vec<Arrival>) -> Result<Committed, StoreError> {
        let is_secret = arrivals.iter().any(|arrival| arrival.key.kind == ObjectKind::Secret);
        let committed = self.store.write(move |tx| commit(tx, arrivals)).await?;
        let has_changed = |change: &ObjectChange| change.key.kind == ObjectKind::Secret;
        if is_secret && committed.changed.iter().any(has_changed) {
            self.wipe_soon();
        }
        if self.arrived.receiver_count() > 0 {
            let stored =
                committed.changed.iter().filter(|change| matches!(change.change, Change::Put { .. }));
            stored.for_each(|change| drop(self.arrived.send(change.key.clone())));
        }
        Ok(committed)
    }

    /// Uids of the objects of `kind` whose text cannot be read.
    pub async fn unreadable(&self, kind: &ObjectKind) -> Result<Vec<String>, StoreError> {
        let kind = kind.to_string();
        self.store
            .read(move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT uid FROM meta WHERE type = ?1 AND uid IS NOT NULL AND NOT json_valid(value)",
                )?;
                let rows = statement.query_map([kind], |row| row.get(0))?;
                rows.collect()
            })
            .await
    }

    /// Identity of this database.
    pub async fn store_id(&self) -> Result<String, StoreError> {
        self.store
            .read(|db| db.query_row("SELECT value FROM facts WHERE name = 'store'", [], |row| row.get(0)))
            .await
    }

    /// Digests of what is held of each synced kind.
    pub async fn digests(&self) -> Result<Vec<KindDigest>, StoreError> {
        self.store.read(digests).await
    }

    /// What is held of the named kinds.
    pub async fn held(&self, kinds: Vec<String>) -> Result<Vec<Held>, StoreError> {
        self.store.read(move |db| held(db, &kinds)).await
    }

    /// Stores a row that is this node's own (a cached token), replacing the last one.
    pub async fn keep(
        &self,
        path: String,
        kind: &'static str,
        uid: String,
        value: String,
    ) -> Result<(), StoreError> {
        self.store
            .write(move |tx| {
                tx.prepare_cached(
                    "INSERT OR REPLACE INTO meta(key, type, value, uid) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![path, kind, value, uid])
                .map(|_| ())
            })
            .await
    }

    /// Reads a row written by [`Objects::keep`].
    pub async fn kept(&self, path: String) -> Result<Option<String>, StoreError> {
        self.store
            .read(move |db| {
                db.prepare_cached("SELECT value FROM meta WHERE key = ?1")?
                    .query_row([path], |row| row.get(0))
                    .optional()
            })
            .await
    }

    /// Every row of `kind` written by [`Objects::keep`].
    pub async fn kept_of(&self, kind: &'static str) -> Result<Vec<String>, StoreError> {
        self.store
            .read(move |db| {
                let mut statement = db.prepare_cached("SELECT value FROM meta WHERE type = ?1")?;
                let rows = statement.query_map([kind], |row| row.get(0))?;
                rows.collect()
            })
            .await
    }

    /// The uids that rows of `kind` were written for; those of KubeEdge have none.
    pub async fn kept_for(&self, kind: &'static str) -> Result<Vec<String>, StoreError> {
        self.store
            .read(move |db| {
                let mut statement =
                    db.prepare_cached("SELECT DISTINCT uid FROM meta WHERE type = ?1 AND uid IS NOT NULL")?;
                let rows = statement.query_map([kind], |row| row.get(0))?;
                rows.collect()
            })
            .await
    }

    /// Removes rows of `kind` that KubeEdge wrote, unless their key names one of `uids`.
    pub async fn drop_foreign(&self, kind: &'static str, uids: Vec<String>) -> Result<(), StoreError> {
        self.store
            .write(move |tx| {
                let mut statement =
                    tx.prepare_cached("SELECT key FROM meta WHERE type = ?1 AND uid IS NULL")?;
                let keys = statement.query_map([kind], |row| row.get::<_, String>(0))?;
                let keys: Vec<String> = keys.collect::<Result<_, _>>()?;
                let mut stale = keys.iter().filter(|key| !uids.iter().any(|uid| key.contains(uid.as_str())));
                stale.try_for_each(|key| tx.execute("DELETE FROM meta WHERE key = ?1", [key]).map(drop))
            })
            .await
    }

    /// What was a secret's is taken from the disk, too: at most once in a while, as it costs a write of the whole log.
    pub fn wipe_soon(&self) {
        if self.wipes.swap(true, Ordering::Relaxed) {
            return;
        }
        let (store, wipes) = (self.store.clone(), self.wipes.clone());
        tokio::spawn(async move {
            tokio::time::sleep(WIPE).await;
            wipes.store(false, Ordering::Relaxed);
            // A statement that holds the log for long: the next time does it.
            if let Err(error) = store.wipe().await {
                tracing::debug!(error = %error, "the database's log was not emptied");
            }
        });
    }

    /// Removes rows of `kind` written by [`Objects::keep`] for `uid`.
    pub async fn drop_kept(&self, kind: &'static str, uid: String) -> Result<(), StoreError> {
        self.store
            .write(move |tx| {
                tx.execute("DELETE FROM meta WHERE type = ?1 AND uid = ?2", params![kind, uid]).map(|_| ())
            })
            .await
    }
}

fn list(db: &Connection, kind: &str) -> store::rusqlite::Result<Vec<StoredObject>> {
    let mut statement =
        db.prepare_cached("SELECT key, value, uid, version FROM meta WHERE type = ?1 ORDER BY key")?;
    let rows = statement.query_map([kind], read_row)?;
    rows.filter_map(Result::transpose).collect()
}

/// `None` for a row that is not an object (KubeEdge keeps other things in the same table).
fn read_row(row: &Row<'_>) -> store::rusqlite::Result<Option<StoredObject>> {
    let (path, value): (String, String) = (row.get(0)?, row.get(1)?);
    let (uid, version): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
    let (Ok(key), Ok(object)) = (ObjectKey::parse(&path), Json::from_text(value)) else { return Ok(None) };
    let uid = uid.unwrap_or_else(|| uid_of(&object));
    Ok(Some(StoredObject { key, uid, version: ResourceVersion(version.unwrap_or_default()), object }))
}

fn uid_of(object: &Json) -> String {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Metadata {
        uid: String,
    }
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Object {
        metadata: Metadata,
    }
    object.parse::<Object>().unwrap_or_default().metadata.uid
}

/// The transaction of [`Objects::commit`].
pub fn commit(tx: &Connection, arrivals: Vec<Arrival>) -> store::rusqlite::Result<Committed> {
    let mut committed = Committed::default();
    for (at, arrival) in arrivals.into_iter().enumerate() {
        match commit_one(tx, arrival)? {
            Outcome::Changed(change) => committed.changed.push(change),
            Outcome::Unchanged => {}
            Outcome::BaseMissing => committed.base_missing.push(at),
        }
    }
    Ok(committed)
}

enum Outcome {
    Changed(ObjectChange),
    Unchanged,
    BaseMissing,
}

fn commit_one(tx: &Connection, arrival: Arrival) -> store::rusqlite::Result<Outcome> {
    let Arrival { key, mark, body } = arrival;
    let path = key.to_string();
    let stored = tx
        .prepare_cached("SELECT key, value, uid, version FROM meta WHERE key = ?1")?
        .query_row([&path], read_row)
        .optional()?
        .flatten();
    let (version, object) = match body {
        Body::Put { version, object } => (version, object),
        Body::Differ { version, delta } => {
            let text = stored.as_ref().and_then(|stored| native::apply(stored.object.text(), &delta).ok());
            let Some(object) = text.and_then(|text| Json::from_text(text).ok()) else {
                return Ok(Outcome::BaseMissing);
            };
            (version, object)
        }
        Body::Remove { uid } => {
            let Some(stored) = stored else {
                // Its row may be lost, and it may run.
                return Ok(match uid.is_some() && key.kind == ObjectKind::Pod {
                    true => Outcome::Changed(ObjectChange { key, change: Change::Remove { uid } }),
                    false => Outcome::Unchanged,
                });
            };
            if uid.as_ref().is_some_and(|uid| *uid != stored.uid) {
                return Ok(Outcome::Unchanged);
            }
            tx.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([path])?;
            remember_removed(tx, &stored)?;
            return Ok(Outcome::Changed(ObjectChange { key, change: Change::Remove { uid } }));
        }
    };
    let uid = uid_of(&object);
    if let Some(stored) =
        stored.as_ref().filter(|stored| stored.uid == uid && !version.is_newer_than(&stored.version))
    {
        if stored.version == version {
            // The same object from a sender that marks it.
            tx.prepare_cached("UPDATE meta SET mark = ?2 WHERE key = ?1")?
                .execute(params![path, mark as i64])?;
        }
        return Ok(Outcome::Unchanged);
    }
    if removed_later(tx, &uid, &version)? {
        return Ok(Outcome::Unchanged);
    }
    // One of the same name that takes its place removes the other.
    if let Some(other) = stored.filter(|stored| stored.uid != uid) {
        remember_removed(tx, &other)?;
    }
    tx.prepare_cached(
        "INSERT OR REPLACE INTO meta(key, type, value, uid, version, mark) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![path, key.kind.as_str(), object.text(), uid, version.0, mark as i64])?;
    Ok(Outcome::Changed(ObjectChange { key, change: Change::Put { version, object } }))
}

/// Removed objects whose version is remembered.
const REMEMBERED: i64 = 1000;

/// A replica of the cloud that lives in the past may take an object away and bring it again, older than it was.
fn remember_removed(tx: &Connection, stored: &StoredObject) -> store::rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO removed(uid, version) VALUES (?1, ?2)")?
        .execute(params![stored.uid, stored.version.0])?;
    tx.prepare_cached("DELETE FROM removed WHERE seq <= (SELECT max(seq) FROM removed) - ?1")?
        .execute([REMEMBERED])?;
    Ok(())
}

/// True if the object was removed in a newer version than this.
fn removed_later(tx: &Connection, uid: &str, version: &ResourceVersion) -> store::rusqlite::Result<bool> {
    let removed: Option<String> = tx
        .prepare_cached("SELECT version FROM removed WHERE uid = ?1")?
        .query_row([uid], |row| row.get(0))
        .optional()?;
    Ok(removed.is_some_and(|removed| ResourceVersion(removed).is_newer_than(version)))
}

/// Kinds the cloud keeps in step; other rows are this node's own or answers to its questions.
pub const SYNCED: [ObjectKind; 6] = [
    ObjectKind::Node,
    ObjectKind::ConfigMap,
    ObjectKind::Secret,
    ObjectKind::Pod,
    ObjectKind::Device,
    ObjectKind::DeviceModel,
];

/// Rows kept by this node itself have no version. A row whose text is damaged is as good as none: the cloud sends it again.
const HELD: &str = "SELECT key, uid, version, mark FROM meta
  WHERE type = ?1 AND version IS NOT NULL AND json_valid(value)";

fn rows_of(
    db: &Connection,
    kind: &str,
    mut each: impl FnMut(String, String, String, u64),
) -> store::rusqlite::Result<()> {
    let mut statement = db.prepare_cached(HELD)?;
    let mut rows = statement.query([kind])?;
    while let Some(row) = rows.next()? {
        let uid: Option<String> = row.get(1)?;
        let mark: Option<i64> = row.get(3)?;
        each(row.get(0)?, uid.unwrap_or_default(), row.get(2)?, mark.unwrap_or_default() as u64);
    }
    Ok(())
}

/// Digests of what is held of each synced kind; kinds of which nothing is held are left out.
pub fn digests(db: &Connection) -> store::rusqlite::Result<Vec<KindDigest>> {
    let mut digests = Vec::new();
    for kind in SYNCED {
        let mut digest = Digest::default();
        rows_of(db, kind.as_str(), |_, uid, _, mark| digest.add(&uid, mark))?;
        if digest != Digest::default() {
            digests.push(digest.of_kind(kind.as_str()));
        }
    }
    Ok(digests)
}

/// What is held of the named kinds, if they are synced ones.
pub fn held(db: &Connection, kinds: &[String]) -> store::rusqlite::Result<Vec<Held>> {
    let mut held = Vec::new();
    for kind in SYNCED.iter().filter(|kind| kinds.iter().any(|name| name == kind.as_str())) {
        rows_of(db, kind.as_str(), |resource, uid, version, mark| {
            held.push(Held { resource, uid, version, mark });
        })?;
    }
    Ok(held)
}

impl From<ObjectChange> for Arrival {
    fn from(change: ObjectChange) -> Arrival {
        let body = match change.change {
            Change::Put { version, object } => Body::Put { version, object },
            Change::Remove { uid } => Body::Remove { uid },
        };
        Arrival { key: change.key, mark: 0, body }
    }
}

#[cfg(test)]
mod tests;
