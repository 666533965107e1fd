//! Rows that are this node's own: cached tokens, records of pods and the like. They have no version.

use store::StoreError;
use store::rusqlite::{OptionalExtension, params};

use super::Objects;

impl Objects {
    /// Stores a row that is this node's own (a cached token), replacing the last one.
    pub async fn put_local(
        &self,
        path: String,
        kind: &'static str,
        uid: String,
        value: String,
    ) -> Result<(), StoreError> {
        let seals = self.seals.clone();
        self.store
            .write(move |tx| {
                let value = seals.stored(kind, &path, &value)?;
                tx.prepare_cached(
                    "INSERT OR REPLACE INTO meta(key, type, value, uid) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![path, kind, value, uid])
                .map(|_| ())
            })
            .await
    }

    /// Reads a row written by [`Objects::put_local`]; one that is sealed and does not open is as good as none.
    pub async fn get_local(&self, path: String) -> Result<Option<String>, StoreError> {
        let seals = self.seals.clone();
        self.store
            .read(move |db| {
                let value: Option<String> = db
                    .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
                    .query_row([&path], |row| row.get(0))
                    .optional()?;
                Ok(value.and_then(|value| seals.text(&path, value)))
            })
            .await
    }

    /// Every row of `kind` written by [`Objects::put_local`].
    pub async fn list_local(&self, kind: &'static str) -> Result<Vec<String>, StoreError> {
        let seals = self.seals.clone();
        self.store
            .read(move |db| {
                let mut statement = db.prepare_cached("SELECT key, value FROM meta WHERE type = ?1")?;
                let rows = statement.query_map([kind], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
                let texts = rows.map(|row| row.map(|(path, value)| seals.text(&path, value)));
                texts.filter_map(Result::transpose).collect()
            })
            .await
    }

    /// The uids that rows of `kind` were written for; those of KubeEdge have none.
    pub async fn local_owners(&self, kind: &'static str) -> Result<Vec<String>, StoreError> {
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

    /// Removes rows of `kind` written by [`Objects::put_local`] for `uid`.
    pub async fn delete_local(&self, kind: &'static str, uid: String) -> Result<(), StoreError> {
        self.store
            .write(move |tx| {
                tx.execute("DELETE FROM meta WHERE type = ?1 AND uid = ?2", params![kind, uid]).map(|_| ())
            })
            .await
    }
}
