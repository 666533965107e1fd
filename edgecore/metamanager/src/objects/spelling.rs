//! How rows are called: by the text of their object's key ([`message::ObjectKey`]), in the column `type` by that of its kind.
//!
//! Both are KubeEdge's for the kinds it knows, so an older build, KubeEdge and this one read each other's rows. A kind that was
//! known by group, version and plural only, and has a line in the table of kinds now, is called otherwise than its rows are:
//! they are renamed at the start, in one transaction.

use message::ObjectKey;
use store::StoreError;
use store::rusqlite::{Connection, params};

use super::Objects;

/// Rows that are not called by a word of KubeEdge's.
const BY_RESOURCE: &str = "SELECT key FROM meta WHERE key >= '/' AND key < '0'";
/// A row of the right name is newer: it was written since.
const RENAME: &str = "UPDATE OR IGNORE meta SET key = ?2, type = ?3 WHERE key = ?1";
const DROP: &str = "DELETE FROM meta WHERE key = ?1";

impl Objects {
    /// Renames rows whose kind is called otherwise by now. Returns how many that were.
    ///
    /// # Errors
    /// The disk takes no writes; all rows are called as they were, and are not found under their new name.
    pub async fn respell(&self) -> Result<usize, StoreError> {
        if self.store.read(misspelt).await?.is_empty() {
            return Ok(0);
        }
        self.store.write(|tx| respell(tx)).await
    }
}

/// Names of rows with what they should be.
fn misspelt(db: &Connection) -> store::rusqlite::Result<Vec<(String, ObjectKey)>> {
    let mut statement = db.prepare(BY_RESOURCE)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let read = |name: String| ObjectKey::parse(&name).ok().map(|key| (name, key));
    Ok(names.into_iter().filter_map(read).filter(|(name, key)| *name != key.to_string()).collect())
}

fn respell(tx: &Connection) -> store::rusqlite::Result<usize> {
    let rows = misspelt(tx)?;
    for (name, key) in &rows {
        if tx.execute(RENAME, params![name, key.to_string(), key.kind.to_string()])? == 0 {
            tx.execute(DROP, [name])?;
        }
    }
    Ok(rows.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{Change, ObjectChange};
    use message::{Json, ObjectKind, ResourceVersion};
    use std::path::Path;

    fn objects(path: &Path) -> Objects {
        Objects::new(crate::database::open(path).unwrap())
    }

    /// A valve of this group and version of its object.
    fn valve(group: &str, version: u32) -> ObjectChange {
        let text = format!(
            "{{\"apiVersion\":\"{group}/v1\",\"kind\":\"Valve\",\"metadata\":{{\"name\":\"a\",\"uid\":\"{group}\"}}}}"
        );
        let key = ObjectKey::parse_with("d/valve/a", &format!("{group}/v1")).unwrap();
        let version = ResourceVersion(version.to_string());
        ObjectChange { key, change: Change::Put { version, object: Json::from_text(text).unwrap() } }
    }

    #[tokio::test]
    async fn two_definitions_of_one_kind_live_side_by_side() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.db");
        let (mine, theirs) = (valve("a.io", 1), valve("b.io", 1));
        objects(&path).apply(vec![mine.clone(), theirs.clone()]).await.unwrap();
        let objects = objects(&path);
        for change in [&mine, &theirs] {
            let listed = objects.list(&change.key.kind).await.unwrap();
            assert_eq!(listed.iter().map(|stored| &stored.key).collect::<Vec<_>>(), [&change.key]);
            let held = objects.held(vec![change.key.kind.to_string()]).await.unwrap();
            assert_eq!(
                held.iter().map(|held| held.resource.clone()).collect::<Vec<_>>(),
                [change.key.to_string()]
            );
        }
        assert_eq!(objects.digests().await.unwrap().len(), 2);
        let removal = Change::Remove { uid: Some("a.io".to_owned()) };
        objects.apply(vec![ObjectChange { key: mine.key.clone(), change: removal }]).await.unwrap();
        assert!(objects.get(&mine.key).await.unwrap().is_none());
        assert!(objects.get(&theirs.key).await.unwrap().is_some());
    }

    /// A row of a kind before the kind had a line in the table.
    async fn put_row(objects: &Objects, name: &'static str, version: &'static str) {
        let sql = "INSERT INTO meta(key, type, value, uid, version, mark) VALUES (?1, ?2, ?3, 'u', ?4, 7)";
        let text = "{\"metadata\":{\"uid\":\"u\"}}";
        let kind = &name[1..name.len() - "/d/a".len()];
        objects.store.write(move |tx| tx.execute(sql, params![name, kind, text, version])).await.unwrap();
    }

    #[tokio::test]
    async fn rows_of_a_kind_that_has_a_line_by_now_are_found_after_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.db");
        let before = objects(&path);
        put_row(&before, "/core/v1/services/d/a", "5").await;
        put_row(&before, "/x.io/v1/valves/d/a", "6").await;
        let key = ObjectKey::parse("d/service/a").unwrap();
        assert!(before.get(&key).await.unwrap().is_none());
        drop(before);

        let after = objects(&path);
        assert_eq!(after.respell().await.unwrap(), 1);
        assert_eq!(after.respell().await.unwrap(), 0);
        assert_eq!(after.get(&key).await.unwrap().unwrap().version.0, "5");
        assert_eq!(after.list(&ObjectKind::Service).await.unwrap().len(), 1);
        assert_eq!(
            after.list(&ObjectKey::parse("/x.io/v1/valves/d/a").unwrap().kind).await.unwrap().len(),
            1
        );
        // An older build has written it again under its old name: what this one wrote since counts.
        put_row(&after, "/core/v1/services/d/a", "4").await;
        assert_eq!(after.respell().await.unwrap(), 1);
        assert_eq!(after.get(&key).await.unwrap().unwrap().version.0, "5");
    }

    #[tokio::test]
    async fn a_power_cut_while_rows_are_renamed_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.db");
        let before = objects(&path);
        put_row(&before, "/core/v1/services/d/a", "5").await;
        put_row(&before, "/core/v1/services/d/b", "5").await;
        drop(before);
        // The files as the power cut leaves them: the transaction was written to the log and not committed.
        let cut = folder.path().join("cut.db");
        let mut database = store::rusqlite::Connection::open(&path).unwrap();
        database.pragma_update(None, "cache_size", 1).unwrap();
        let transaction = database.transaction().unwrap();
        assert_eq!(respell(&transaction).unwrap(), 2);
        for (from, to) in [("e.db", "cut.db"), ("e.db-wal", "cut.db-wal")] {
            let copied = std::fs::copy(folder.path().join(from), folder.path().join(to));
            assert!(copied.is_ok() || from.ends_with("-wal"), "{copied:?}");
        }
        drop(transaction);

        let after = objects(&cut);
        assert_eq!(after.respell().await.unwrap(), 2);
        assert_eq!(after.list(&ObjectKind::Service).await.unwrap().len(), 2);
    }
}
