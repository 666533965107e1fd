//! Lists: pages of a resource as it is, or as it was at a revision that the log still reaches.

use apimachinery::Status;
use kubeapi::stored::{Key, ListQuery, Page, Stored};
use store::rusqlite::{self, Connection, Rows, params};

use super::read::{current, horizon, stored};
use super::{Storage, facets};

/// Why there is no page.
enum Missing {
    /// The log does not reach back that far.
    Past,
    /// The revision has not come yet.
    Future { current: i64 },
}

const NOW: &str = "SELECT resource, namespace, name, revision, body
    FROM objects CROSS JOIN bodies USING (revision)
    WHERE resource = ?1 AND (?2 IS NULL OR namespace = ?2) AND (namespace, name) > (?3, ?4)
    ORDER BY namespace, name";
const BY_FACET: &str = "SELECT resource, namespace, name, revision, body
    FROM facets CROSS JOIN objects USING (resource, namespace, name) CROSS JOIN bodies USING (revision)
    WHERE resource = ?1 AND facet = ?5 AND (?2 IS NULL OR namespace = ?2) AND (namespace, name) > (?3, ?4)
    ORDER BY namespace, name";
/// What has not changed since, and what the first change after it replaced.
const THEN: &str = "SELECT resource, namespace, name, revision, body
    FROM objects CROSS JOIN bodies USING (revision)
    WHERE resource = ?1 AND (?2 IS NULL OR namespace = ?2) AND (namespace, name) > (?3, ?4) AND revision <= ?5
    UNION ALL
    SELECT resource, namespace, name, was, body FROM (
        SELECT resource, namespace, name, was, min(revision) FROM log
        WHERE resource = ?1 AND revision > ?5 AND (?2 IS NULL OR namespace = ?2) AND (namespace, name) > (?3, ?4)
        GROUP BY namespace, name
    ) CROSS JOIN bodies ON bodies.revision = was
    ORDER BY 2, 3";
const REMAINING: &str = "SELECT count(*) FROM objects
    WHERE resource = ?1 AND (?2 IS NULL OR namespace = ?2) AND (namespace, name) > (?3, ?4)";

/// Takes a page out of `rows`, and tells whether there is more. `sure`: every row is selected.
fn page(query: &ListQuery, mut rows: Rows<'_>, sure: bool) -> rusqlite::Result<(Vec<Stored>, bool)> {
    let mut items = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let item = stored(row)?;
        if !sure && !query.selects(&item) {
            continue;
        }
        let is_full = query.limit > 0 && items.len() == query.limit || query.part > 0 && bytes >= query.part;
        if is_full {
            return Ok((items, true));
        }
        bytes += item.body.len();
        items.push(item);
    }
    Ok((items, false))
}

/// How many items come after `last`.
fn after(query: &ListQuery, snapshot: &Connection, last: &Key, past: Option<i64>) -> rusqlite::Result<i64> {
    let count = |row: &rusqlite::Row<'_>| row.get(0);
    let Some(at) = past else {
        let place = params![query.resource, query.namespace, last.namespace, last.name];
        return snapshot.prepare_cached(REMAINING)?.query_row(place, count);
    };
    let place = params![query.resource, query.namespace, last.namespace, last.name, at];
    snapshot.prepare(&format!("SELECT count(*) FROM ({THEN})"))?.query_row(place, count)
}

fn read(query: &ListQuery, connection: &Connection) -> rusqlite::Result<Result<Page, Missing>> {
    // One transaction, so that the revision is that of the items.
    let snapshot = connection.unchecked_transaction()?;
    let current = current(&snapshot)?;
    let past = query.at.filter(|at| *at != current);
    match past {
        Some(at) if at > current => return Ok(Err(Missing::Future { current })),
        Some(at) if at < horizon(&snapshot)? => return Ok(Err(Missing::Past)),
        _ => {}
    }
    let (namespace, name) = query.after.clone().unwrap_or_default();
    let place = params![query.resource, query.namespace, namespace, name];
    let everything = query.labels.is_everything() && query.fields.is_everything();
    let facet = facets::wanted(query).filter(|_| past.is_none());
    let (items, more) = match (past, &facet) {
        (Some(at), _) => {
            let mut statement = snapshot.prepare_cached(THEN)?;
            let place = params![query.resource, query.namespace, namespace, name, at];
            page(query, statement.query(place)?, everything)?
        }
        (None, Some((facet, only))) => {
            let mut statement = snapshot.prepare_cached(BY_FACET)?;
            let place = params![query.resource, query.namespace, namespace, name, facet];
            page(query, statement.query(place)?, *only)?
        }
        (None, None) => page(query, snapshot.prepare_cached(NOW)?.query(place)?, everything)?,
    };
    let last = items.last().filter(|_| more && everything && query.part == 0);
    let remaining = last.map(|last| after(query, &snapshot, &last.key, past)).transpose()?;
    Ok(Ok(Page { items, revision: past.unwrap_or(current), more, remaining }))
}

impl Storage {
    /// 410 if [`ListQuery::at`] is further back than the log reaches, 504 if it has not come yet.
    pub(crate) async fn list(&self, query: ListQuery) -> Result<Page, Status> {
        let at = query.at.unwrap_or_default();
        self.read(move |connection| read(&query, connection)).await?.map_err(|missing| match missing {
            Missing::Past => Status::expired(format!("The provided resource version is too old: {at}")),
            Missing::Future { current } => Status::too_large_version(at, current),
        })
    }
}
