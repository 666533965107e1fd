//! What is held, as the cloud is told of it at connect. Marks are of the meaning of objects, so it does not matter how an
//! object is stored.

use apimachinery::kinds;
use message::ObjectKind;
use native::Digest;
use native::frames::{Held, KindDigest};
use store::StoreError;
use store::rusqlite::types::ValueRef;
use store::rusqlite::{Connection, Row};

use super::Objects;
use crate::sealed::Seals;

impl Objects {
    /// Digests of what is held of each synced kind.
    pub async fn digests(&self) -> Result<Vec<KindDigest>, StoreError> {
        let seals = self.seals.clone();
        self.store.read(move |db| digests(db, &seals)).await
    }

    /// What is held of the named kinds.
    pub async fn held(&self, kinds: Vec<String>) -> Result<Vec<Held>, StoreError> {
        let seals = self.seals.clone();
        self.store.read(move |db| held(db, &kinds, &seals)).await
    }

    /// Uids of the objects of `kind` whose text cannot be read.
    pub async fn unreadable(&self, kind: &ObjectKind) -> Result<Vec<String>, StoreError> {
        let (kind, seals) = (kind.to_string(), self.seals.clone());
        self.store.read(move |db| unreadable(db, &kind, &seals)).await
    }
}

/// Names of the kinds the cloud keeps in step and of which something is held; other rows are this node's own or answers to its
/// questions. Of kinds without a line in the table only what is kept in step comes to a node.
fn synced(db: &Connection) -> store::rusqlite::Result<Vec<String>> {
    let mut kinds: Vec<String> = kinds::synced().iter().map(ToString::to_string).collect();
    let mut statement = db.prepare_cached(OTHERS)?;
    let others = statement.query_map([], |row| row.get(0))?;
    for other in others {
        kinds.push(other?);
    }
    Ok(kinds)
}

const OTHERS: &str =
    "SELECT DISTINCT type FROM meta WHERE key >= '/' AND key < '0' AND version IS NOT NULL ORDER BY type";

/// Rows kept by this node itself have no version. A row whose text is damaged, or sealed and does not open ([`is_shut`]), is
/// as good as none: the cloud sends it again.
const HELD: &str =
    "SELECT key, CASE WHEN value GLOB '\"sealed:*' THEN value END, uid, version, mark FROM meta
  WHERE type = ?1 AND version IS NOT NULL AND json_valid(value)";

/// The first is damaged, the others may be.
const UNREADABLE: &str = "SELECT key, CASE WHEN json_valid(value) THEN value END, uid FROM meta
  WHERE type = ?1 AND uid IS NOT NULL AND (NOT json_valid(value) OR value GLOB '\"sealed:*')";

/// Whether the value of a row (key, sealed value or null, ..) is sealed and does not open.
pub(super) fn is_shut(row: &Row<'_>, seals: &Seals) -> store::rusqlite::Result<bool> {
    let path = row.get_ref(0)?.as_str()?;
    Ok(match row.get_ref(1)? {
        ValueRef::Null => false,
        value => !value.as_str().is_ok_and(|value| seals.opens(path, value)),
    })
}

fn rows_of(
    db: &Connection,
    kind: &str,
    seals: &Seals,
    mut each: impl FnMut(String, String, String, u64),
) -> store::rusqlite::Result<()> {
    let mut statement = db.prepare_cached(HELD)?;
    let mut rows = statement.query([kind])?;
    while let Some(row) = rows.next()? {
        if is_shut(row, seals)? {
            continue;
        }
        let uid: Option<String> = row.get(2)?;
        let mark: Option<i64> = row.get(4)?;
        each(row.get(0)?, uid.unwrap_or_default(), row.get(3)?, mark.unwrap_or_default() as u64);
    }
    Ok(())
}

fn unreadable(db: &Connection, kind: &str, seals: &Seals) -> store::rusqlite::Result<Vec<String>> {
    let mut statement = db.prepare_cached(UNREADABLE)?;
    let mut rows = statement.query([kind])?;
    let mut uids = Vec::new();
    while let Some(row) = rows.next()? {
        let is_damaged = row.get_ref(1)? == ValueRef::Null;
        if is_damaged || is_shut(row, seals)? {
            uids.push(row.get(2)?);
        }
    }
    Ok(uids)
}

/// Digests of what is held of each synced kind; kinds of which nothing is held are left out.
pub fn digests(db: &Connection, seals: &Seals) -> store::rusqlite::Result<Vec<KindDigest>> {
    let mut digests = Vec::new();
    for kind in synced(db)? {
        let mut digest = Digest::default();
        rows_of(db, &kind, seals, |_, uid, _, mark| digest.add(&uid, mark))?;
        if digest != Digest::default() {
            digests.push(digest.of_kind(&kind));
        }
    }
    Ok(digests)
}

/// What is held of the named kinds, if they are synced ones.
pub fn held(db: &Connection, kinds: &[String], seals: &Seals) -> store::rusqlite::Result<Vec<Held>> {
    let mut held = Vec::new();
    for kind in synced(db)?.iter().filter(|kind| kinds.contains(kind)) {
        rows_of(db, kind, seals, |resource, uid, version, mark| {
            held.push(Held { resource, uid, version, mark });
        })?;
    }
    Ok(held)
}
