//! Single objects that clients got, for when the node is cut off.

use kubeapi::stored::{Key, Stored};
use store::StoreError;
use store::rusqlite::{OptionalExtension as _, params};

use super::{Tables, closed, opened};

/// Objects that are kept.
const MOST: i64 = 1000;
/// Larger ones are not.
const LARGEST: usize = 256 * 1024;
/// Seconds after which an object that did not change is noted as seen again.
const AGAIN: i64 = 60;

/// `place` in the table: the version counts, as objects differ in it.
fn place(api_version: &str, key: &Key) -> String {
    format!("{api_version} {} {} {}", key.resource, key.namespace, key.name)
}

impl Tables {
    /// The object as it was got last, and when (Unix seconds).
    pub(crate) async fn kept(
        &self,
        api_version: &str,
        key: &Key,
    ) -> Result<Option<(Stored, i64)>, StoreError> {
        let (place, key, seals) = (place(api_version, key), key.clone(), self.seals.clone());
        self.store
            .read(move |db| {
                let found: Option<(i64, i64, String)> = db
                    .prepare_cached("SELECT revision, seen, body FROM kept WHERE place = ?1")?
                    .query_row([place], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                    .optional()?;
                Ok(found.and_then(|(revision, seen, body)| {
                    let body = opened(&seals, &key, body)?.into();
                    Some((Stored { key, revision, body }, seen))
                }))
            })
            .await
    }

    /// Keeps what a client got; nothing is written if it is kept already.
    pub(crate) async fn keep(&self, api_version: &str, stored: &Stored, now: i64) -> Result<(), StoreError> {
        if stored.body.len() > LARGEST {
            return self.forget(api_version, &stored.key).await;
        }
        let (place, stored, seals) = (place(api_version, &stored.key), stored.clone(), self.seals.clone());
        let asked = place.clone();
        let kept: Option<(i64, i64)> = self
            .store
            .read(move |db| {
                db.prepare_cached("SELECT revision, seen FROM kept WHERE place = ?1")?
                    .query_row([asked], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()
            })
            .await?;
        if kept.is_some_and(|(revision, seen)| {
            revision == stored.revision && revision != 0 && (0..AGAIN).contains(&(now - seen))
        }) {
            return Ok(());
        }
        self.store
            .write(move |tx| {
                let body = closed(&seals, &stored)?;
                tx.prepare_cached("INSERT OR REPLACE INTO kept(place, revision, seen, body) VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![place, stored.revision, now, body])?;
                tx.prepare_cached(
                    "DELETE FROM kept WHERE place IN (SELECT place FROM kept ORDER BY seen DESC LIMIT -1 OFFSET ?1)",
                )?
                .execute([MOST])
                .map(drop)
            })
            .await
    }

    /// It is gone.
    pub(crate) async fn forget(&self, api_version: &str, key: &Key) -> Result<(), StoreError> {
        let place = place(api_version, key);
        let asked = place.clone();
        let is_kept = self
            .store
            .read(move |db| db.prepare_cached("SELECT 1 FROM kept WHERE place = ?1")?.exists([asked]));
        if !is_kept.await? {
            return Ok(());
        }
        self.store.write(move |tx| tx.execute("DELETE FROM kept WHERE place = ?1", [place]).map(drop)).await
    }
}
