//! What happens to the objects of a list, and what differs between two of the same scope.

use kubeapi::stored::{Key, Stored};
use metamanager::sealed::Seals;
use store::rusqlite::{self, Connection, params};

use super::opened;

/// What happened to an object.
pub(crate) enum Change {
    Put(Stored),
    Remove(Stored),
}

impl Change {
    pub(crate) fn stored(&self) -> &Stored {
        match self {
            Change::Put(stored) | Change::Remove(stored) => stored,
        }
    }
}

/// A change, and the body that the object had before.
pub(crate) type Difference = (Change, Option<String>);

/// Most that are told one by one: as many as a view retains.
const MOST: usize = 256;

/// From the list `before` to the list `now`, in no order; `None` for more than [`MOST`], or what cannot be read any more.
pub(super) fn differences(
    db: &Connection,
    (before, now): (i64, i64),
    resource: &str,
    seals: &Seals,
) -> rusqlite::Result<Option<Vec<Difference>>> {
    let mut statement = db.prepare_cached(
        "SELECT new.namespace, new.name, new.revision, new.body, old.body, 0 FROM objects new
           LEFT JOIN objects old ON old.list = ?1 AND old.namespace = new.namespace AND old.name = new.name
           WHERE new.list = ?2 AND old.revision IS NOT new.revision
         UNION ALL
         SELECT old.namespace, old.name, old.revision, old.body, old.body, 1 FROM objects old
           LEFT JOIN objects new ON new.list = ?2 AND new.namespace = old.namespace AND new.name = old.name
           WHERE old.list = ?1 AND new.name IS NULL
         LIMIT ?3",
    )?;
    let most = i64::try_from(MOST).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![before, now, most.saturating_add(1)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let key = Key::new(resource, &row.get::<_, String>(0)?, &row.get::<_, String>(1)?);
        let was: Option<String> = row.get(4)?;
        let (body, was) = (opened(seals, &key, row.get(3)?), was.map(|was| opened(seals, &key, was)));
        let (Some(body), None | Some(Some(_))) = (body, &was) else { return Ok(None) };
        let stored = Stored { key, revision: row.get(2)?, body: body.into() };
        let change = if row.get(5)? { Change::Remove(stored) } else { Change::Put(stored) };
        found.push((change, was.flatten()));
    }
    Ok((found.len() <= MOST).then_some(found))
}
