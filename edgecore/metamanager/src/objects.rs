//! The stored objects: table `meta`, keyed by the text of their keys. Secrets and tokens are sealed where there is a key.

mod inventory;
mod own;
mod sealing;
mod spelling;
mod wiping;

use message::{Json, ObjectKey, ObjectKind, ResourceVersion};
use native::frames::Delta;
use store::rusqlite::{Connection, OptionalExtension, Row, params};
use store::{Store, StoreError};
use tokio::sync::broadcast;

use super::sealed::Seals;
pub use inventory::{digests, held};
use wiping::Wiper;

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
    seals: Seals,
    arrived: broadcast::Sender<ObjectKey>,
    wiper: Wiper,
}

/// Keys of objects that were stored; clones of a handle share them.
pub type Arrivals = broadcast::Receiver<ObjectKey>;

/// Arrivals a slow reader may have waiting; one that missed some looks for itself.
const ARRIVALS: usize = 64;

impl Objects {
    /// Nothing is sealed, and what is does not open.
    pub fn new(store: Store) -> Objects {
        Objects::sealing(store, Seals::default())
    }

    pub fn sealing(store: Store, seals: Seals) -> Objects {
        let wiper = Wiper::new(store.clone(), seals.sealer().is_some());
        Objects { store, seals, arrived: broadcast::channel(ARRIVALS).0, wiper }
    }

    /// What is stored from now on.
    pub fn arrivals(&self) -> Arrivals {
        self.arrived.subscribe()
    }

    pub async fn get(&self, key: &ObjectKey) -> Result<Option<StoredObject>, StoreError> {
        let (path, seals) = (key.to_string(), self.seals.clone());
        self.store.read(move |db| stored(db, &path, &seals)).await
    }

    pub async fn list(&self, kind: &ObjectKind) -> Result<Vec<StoredObject>, StoreError> {
        let (kind, seals) = (kind.to_string(), self.seals.clone());
        self.store.read(move |db| list(db, &kind, &seals)).await
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
        let seals = self.seals.clone();
        let committed = self.store.write(move |tx| commit(tx, arrivals, &seals)).await?;
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

    /// Identity of this database.
    pub async fn store_id(&self) -> Result<String, StoreError> {
        self.store
            .read(|db| db.query_row("SELECT value FROM facts WHERE name = 'store'", [], |row| row.get(0)))
            .await
    }

    /// What was a secret's is taken from the disk, too.
    pub fn wipe_soon(&self) {
        self.wiper.soon();
    }

    /// Does what an earlier process has not done about secrets that are gone.
    pub async fn wipe_owed(&self) -> Result<(), StoreError> {
        self.wiper.begin().await
    }
}

fn list(db: &Connection, kind: &str, seals: &Seals) -> store::rusqlite::Result<Vec<StoredObject>> {
    let mut statement =
        db.prepare_cached("SELECT key, value, uid, version FROM meta WHERE type = ?1 ORDER BY key")?;
    let rows = statement.query_map([kind], |row| read_row(row, seals))?;
    rows.filter_map(Result::transpose).collect()
}

fn stored(db: &Connection, path: &str, seals: &Seals) -> store::rusqlite::Result<Option<StoredObject>> {
    db.prepare_cached("SELECT key, value, uid, version FROM meta WHERE key = ?1")?
        .query_row([path], |row| read_row(row, seals))
        .optional()
        .map(Option::flatten)
}

/// `None` for a row that is not an object (KubeEdge keeps other things in the same table), or is sealed and does not open.
fn read_row(row: &Row<'_>, seals: &Seals) -> store::rusqlite::Result<Option<StoredObject>> {
    let (path, value): (String, String) = (row.get(0)?, row.get(1)?);
    let (uid, version): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
    let Some(text) = seals.text(&path, value) else { return Ok(None) };
    let (Ok(key), Ok(object)) = (ObjectKey::parse(&path), Json::from_text(text)) else { return Ok(None) };
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
pub fn commit(tx: &Connection, arrivals: Vec<Arrival>, seals: &Seals) -> store::rusqlite::Result<Committed> {
    let mut committed = Committed::default();
    for (at, arrival) in arrivals.into_iter().enumerate() {
        match commit_one(tx, arrival, seals)? {
            ArrivalOutcome::Changed(change) => committed.changed.push(change),
            ArrivalOutcome::Unchanged => {}
            ArrivalOutcome::BaseMissing => committed.base_missing.push(at),
        }
    }
    Ok(committed)
}

enum ArrivalOutcome {
    Changed(ObjectChange),
    Unchanged,
    BaseMissing,
}

fn commit_one(tx: &Connection, arrival: Arrival, seals: &Seals) -> store::rusqlite::Result<ArrivalOutcome> {
    let Arrival { key, mark, body } = arrival;
    let path = key.to_string();
    let stored = stored(tx, &path, seals)?;
    let (version, object) = match body {
        Body::Put { version, object } => (version, object),
        Body::Differ { version, delta } => {
            let text = stored.as_ref().and_then(|stored| native::apply(stored.object.text(), &delta).ok());
            let Some(object) = text.and_then(|text| Json::from_text(text).ok()) else {
                return Ok(ArrivalOutcome::BaseMissing);
            };
            (version, object)
        }
        Body::Remove { uid } => {
            let Some(stored) = stored else {
                // A row that cannot be read goes, too.
                tx.prepare_cached(
                    "DELETE FROM meta WHERE key = ?1 AND type = ?2 AND (?3 IS NULL OR uid = ?3)",
                )?
                .execute(params![path, key.kind.to_string(), uid])?;
                // Its row may be lost, and it may run.
                return Ok(match uid.is_some() && key.kind == ObjectKind::Pod {
                    true => ArrivalOutcome::Changed(ObjectChange { key, change: Change::Remove { uid } }),
                    false => ArrivalOutcome::Unchanged,
                });
            };
            if uid.as_ref().is_some_and(|uid| *uid != stored.uid) {
                return Ok(ArrivalOutcome::Unchanged);
            }
            tx.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([path])?;
            remember_removed(tx, &stored)?;
            return Ok(ArrivalOutcome::Changed(ObjectChange { key, change: Change::Remove { uid } }));
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
        return Ok(ArrivalOutcome::Unchanged);
    }
    if removed_later(tx, &uid, &version)? {
        return Ok(ArrivalOutcome::Unchanged);
    }
    // One of the same name that takes its place removes the other.
    if let Some(other) = stored.filter(|stored| stored.uid != uid) {
        remember_removed(tx, &other)?;
    }
    let kind = key.kind.to_string();
    let value = seals.stored(&kind, &path, object.text())?;
    tx.prepare_cached(
        "INSERT OR REPLACE INTO meta(key, type, value, uid, version, mark) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![path, kind, value, uid, version.0, mark as i64])?;
    Ok(ArrivalOutcome::Changed(ObjectChange { key, change: Change::Put { version, object } }))
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
