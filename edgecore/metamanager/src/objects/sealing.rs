//! Sealing what is stored, and letting go of what does not open.

use store::StoreError;
use store::rusqlite::{Connection, params};

use super::Objects;
use super::inventory::is_shut;
use crate::sealed::{KINDS, Sealer, Seals, not_stored};

/// Rows of one type that are sealed, and those that are not.
const SEALED: &str = "SELECT key, value FROM meta WHERE type = ?1 AND value GLOB '\"sealed:*'";
const PLAIN: &str = "SELECT key FROM meta WHERE type = ?1 AND value NOT GLOB '\"sealed:*'";
const SEAL: &str = "UPDATE meta SET value = ?2 WHERE key = ?1";
const DROP: &str = "DELETE FROM meta WHERE key = ?1";

/// A fact that says: since the pages were written anew, nothing that is to be sealed was stored in plain text. Pages may hold
/// copies of rows that were moved, and of what KubeEdge has deleted.
const IS_CLEAN: &str = "SELECT count(*) FROM facts WHERE name = 'sealed'";
const CLEAN: &str = "INSERT OR REPLACE INTO facts VALUES ('sealed', 'all')";
const NOT_CLEAN: &str = "DELETE FROM facts WHERE name = 'sealed'";

/// What KubeEdge's MetaServer keeps in a table of its own. Nobody reads it here, and KubeEdge asks for it again.
const METASERVER: &str = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta_v2'";
const ITS_SECRETS: &str = "SELECT 1 FROM meta_v2 WHERE group_version_resource LIKE '%Resource=secrets'";
const DROP_ITS_SECRETS: &str = "DELETE FROM meta_v2 WHERE group_version_resource LIKE '%Resource=secrets'";

impl Objects {
    /// Seals what is stored in plain text, in one transaction, and wipes it from the disk; rows that are damaged go. Without a
    /// key nothing is sealed. Returns how many rows that were.
    ///
    /// # Errors
    /// The disk takes no writes: all is as it was, or sealed and not wiped yet.
    pub async fn seal_stored(&self) -> Result<usize, StoreError> {
        let seals = self.seals.clone();
        if seals.sealer().is_none() {
            return self.expect_plain_text().await.map(|()| 0);
        }
        let sealed = match self.store.read(is_any_plain).await? {
            true => {
                self.store
                    .write(move |tx| seals.sealer().map_or(Ok(0), |sealer| seal_all(tx, sealer)))
                    .await?
            }
            false => 0,
        };
        // Also what an earlier start has sealed, should it have ended before this.
        match self.is_clean().await? {
            true => self.store.wipe().await?,
            false => {
                self.store.rewrite().await?;
                self.store.write(|tx| tx.execute(CLEAN, [])).await?;
            }
        }
        Ok(sealed)
    }

    /// A start with a key that comes later has pages to write anew.
    async fn expect_plain_text(&self) -> Result<(), StoreError> {
        match self.is_clean().await? {
            true => self.store.write(|tx| tx.execute(NOT_CLEAN, []).map(drop)).await,
            false => Ok(()),
        }
    }

    async fn is_clean(&self) -> Result<bool, StoreError> {
        self.store.read(|db| db.query_row(IS_CLEAN, [], |row| row.get(0))).await
    }

    /// How many rows are sealed and do not open.
    pub async fn shut(&self) -> Result<usize, StoreError> {
        let seals = self.seals.clone();
        self.store.read(move |db| Ok(shut(db, &seals)?.len())).await
    }

    /// Removes the rows that are sealed and do not open. Returns how many that were.
    pub async fn drop_shut(&self) -> Result<usize, StoreError> {
        let seals = self.seals.clone();
        self.store
            .write(move |tx| {
                let paths = shut(tx, &seals)?;
                let mut delete = tx.prepare_cached(DROP)?;
                paths.iter().try_for_each(|path| delete.execute([path]).map(drop))?;
                Ok(paths.len())
            })
            .await
    }
}

fn is_any_plain(db: &Connection) -> store::rusqlite::Result<bool> {
    let mut plain = db.prepare(PLAIN)?;
    for kind in KINDS {
        if plain.exists([kind])? {
            return Ok(true);
        }
    }
    Ok(db.prepare(METASERVER)?.exists([])? && db.prepare(ITS_SECRETS)?.exists([])?)
}

fn seal_all(tx: &Connection, sealer: &Sealer) -> store::rusqlite::Result<usize> {
    let mut sealed = 0;
    for kind in KINDS {
        let mut plain = tx.prepare_cached(PLAIN)?;
        let paths = plain.query_map([kind], |row| row.get::<_, String>(0))?;
        // One text at a time is held; the keys of rows are short.
        for path in paths.collect::<Result<Vec<_>, _>>()? {
            match text(tx, &path)? {
                Some(text) => {
                    let value = sealer.seal(&path, &text).map_err(not_stored)?;
                    tx.prepare_cached(SEAL)?.execute(params![path, value])?;
                }
                None => drop(tx.execute(DROP, [&path])?),
            }
            sealed += 1;
        }
    }
    if tx.prepare(METASERVER)?.exists([])? {
        sealed += tx.execute(DROP_ITS_SECRETS, [])?;
    }
    if sealed > 0 {
        tx.execute(NOT_CLEAN, [])?;
    }
    Ok(sealed)
}

/// The text of a row; `None` if it is damaged. Sealed it would look sound, and the cloud would not send it again.
fn text(tx: &Connection, path: &str) -> store::rusqlite::Result<Option<String>> {
    let mut statement = tx.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    let text = statement.query_row([path], |row| Ok(row.get_ref(0)?.as_str().ok().map(str::to_owned)))?;
    Ok(text.filter(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()))
}

/// Keys of the rows that do not open.
fn shut(db: &Connection, seals: &Seals) -> store::rusqlite::Result<Vec<String>> {
    let mut paths = Vec::new();
    let mut statement = db.prepare_cached(SEALED)?;
    for kind in KINDS {
        let mut rows = statement.query([kind])?;
        while let Some(row) = rows.next()? {
            if is_shut(row, seals)? {
                paths.push(row.get(0)?);
            }
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests;
