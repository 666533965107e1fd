//! The stored objects: table `meta`, keyed by wire resource.

use message::{Json, ObjectKey, ObjectKind, ResourceVersion};
use store::rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use store::{Store, StoreError};

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
}

impl Objects {
    pub fn new(store: Store) -> Objects {
        Objects { store }
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
        self.store
            .write(move |tx| {
                let mut applied = Vec::with_capacity(changes.len());
                for change in changes {
                    if apply_one(tx, &change)? {
                        applied.push(change);
                    }
                }
                Ok(applied)
            })
            .await
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

fn apply_one(tx: &Transaction<'_>, change: &ObjectChange) -> store::rusqlite::Result<bool> {
    let path = change.key.to_string();
    let stored = tx
        .prepare_cached("SELECT key, value, uid, version FROM meta WHERE key = ?1")?
        .query_row([&path], read_row)
        .optional()?
        .flatten();
    match &change.change {
        Change::Put { version, object } => {
            let uid = uid_of(object);
            if stored.is_some_and(|stored| stored.uid == uid && !version.is_newer_than(&stored.version)) {
                return Ok(false);
            }
            tx.prepare_cached(
                "INSERT OR REPLACE INTO meta(key, type, value, uid, version) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![path, change.key.kind.as_str(), object.text(), uid, version.0])?;
            Ok(true)
        }
        Change::Remove { uid } => {
            let Some(stored) = stored else { return Ok(false) };
            if uid.as_ref().is_some_and(|uid| *uid != stored.uid) {
                return Ok(false);
            }
            tx.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([path])?;
            Ok(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(uid: &str, version: &str) -> ObjectChange {
        let object = Json::from_text(format!("{{\"metadata\":{{\"uid\":\"{uid}\"}}}}")).unwrap();
        let key = ObjectKey::parse("default/configmap/a").unwrap();
        ObjectChange { key, change: Change::Put { version: ResourceVersion(version.into()), object } }
    }

    fn remove(uid: &str) -> ObjectChange {
        ObjectChange { key: put("", "").key, change: Change::Remove { uid: Some(uid.into()) } }
    }

    async fn version(objects: &Objects) -> Option<String> {
        objects.get(&put("", "").key).await.unwrap().map(|stored| stored.version.0)
    }

    #[tokio::test]
    async fn a_stored_version_never_goes_back_and_a_new_uid_starts_over() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::new(crate::database::open(&folder.path().join("e.db")).unwrap());
        let applied =
            objects.apply(vec![put("u", "5"), put("u", "4"), put("u", "5"), put("u", "6")]).await.unwrap();
        assert_eq!(applied.len(), 2);
        assert_eq!(version(&objects).await.as_deref(), Some("6"));
        objects.apply(vec![put("other", "2")]).await.unwrap();
        assert_eq!(version(&objects).await.as_deref(), Some("2"));
        assert!(objects.apply(vec![remove("u")]).await.unwrap().is_empty());
        assert_eq!(objects.apply(vec![remove("other")]).await.unwrap().len(), 1);
        assert_eq!(version(&objects).await, None);
    }
}
