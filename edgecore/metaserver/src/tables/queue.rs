//! Writes that wait for the cloud, in their order.

use serde::{Deserialize, Serialize};
use store::StoreError;
use store::rusqlite::{self, Connection, OptionalExtension as _, params};

use super::Tables;
use metamanager::sealed::Seals;

use crate::queue::{Act, Author, Queued, Write};

/// Writes of one object that may wait.
pub(crate) const OF_ONE: usize = 64;
/// All that may wait, and their bytes.
const MOST: i64 = 2000;
const BYTES: i64 = 8 * 1024 * 1024;
/// Tokens that are kept.
const TOKENS: i64 = 1000;

/// A write as it is stored.
#[derive(Serialize, Deserialize)]
struct Row {
    kind: String,
    /// Empty: the node.
    #[serde(default)]
    user: String,
    /// What he showed, sealed where there is a key.
    #[serde(default)]
    token: String,
    act: String,
    resource: String,
    api_version: String,
    object_kind: String,
    namespace: String,
    name: String,
    path: String,
    body: serde_json::Value,
}

/// Why a write was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Full {
    No,
    /// There is no room.
    Yes,
}

/// The row of a token of a write, which sealing binds it to.
const TOKEN: &str = "metaserver/queue";

fn text(seals: &Seals, write: &Write) -> rusqlite::Result<String> {
    let author = write.author.as_ref();
    let token = author.and_then(|author| author.token.as_deref()).map(|token| seals.close(TOKEN, token));
    let row = Row {
        kind: write.kind.name().to_owned(),
        user: author.map(|author| author.user.clone()).unwrap_or_default(),
        token: token.transpose()?.unwrap_or_default(),
        act: match &write.act {
            Act::Create => "create".to_owned(),
            Act::Replace => "replace".to_owned(),
            Act::Patch(media) => media.clone(),
        },
        resource: write.resource.clone(),
        api_version: write.api_version.clone(),
        object_kind: write.object_kind.clone(),
        namespace: write.namespace.clone(),
        name: write.name.clone(),
        path: write.path.clone(),
        body: write.body.clone(),
    };
    serde_json::to_string(&row).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn read(seals: &Seals, text: &str) -> Option<Write> {
    let row: Row = serde_json::from_str(text).ok()?;
    Some(Write {
        kind: Queued::stored(&row.kind)?,
        author: (!row.user.is_empty()).then(|| Author {
            user: row.user,
            token: seals.open(TOKEN, row.token).filter(|token| !token.is_empty()),
        }),
        act: match row.act.as_str() {
            "create" => Act::Create,
            "replace" => Act::Replace,
            _ => Act::Patch(row.act),
        },
        resource: row.resource,
        api_version: row.api_version,
        object_kind: row.object_kind,
        namespace: row.namespace,
        name: row.name,
        path: row.path,
        body: row.body,
    })
}

/// Adds a write in the place of those with the numbers `void`. Nothing is changed if there is no room.
fn add(tx: &Connection, void: &[i64], text: String) -> rusqlite::Result<Full> {
    let size = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    let (mut count, mut bytes) =
        tx.query_row("SELECT count(*), coalesce(sum(length(message)), 0) FROM queue", [], size)?;
    let mut of_one =
        tx.prepare_cached("SELECT count(*), coalesce(sum(length(message)), 0) FROM queue WHERE id = ?1")?;
    for id in void {
        let (fewer, fewer_bytes) = of_one.query_row([id], size)?;
        (count, bytes) = (count - fewer, bytes - fewer_bytes);
    }
    let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
    if count >= MOST || bytes.saturating_add(length) > BYTES {
        return Ok(Full::Yes);
    }
    for id in void {
        tx.execute("DELETE FROM queue WHERE id = ?1", [id])?;
    }
    tx.execute("INSERT INTO queue(message) VALUES (?1)", [text])?;
    Ok(Full::No)
}

impl Tables {
    /// All that waits, with their numbers, in order. What cannot be read is left out.
    pub(crate) async fn queued(&self) -> Result<Vec<(i64, Write)>, StoreError> {
        let seals = self.seals.clone();
        self.store
            .read(move |db| {
                let mut statement = db.prepare_cached("SELECT id, message FROM queue ORDER BY id")?;
                let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
                let mut all = Vec::new();
                for row in rows {
                    let (id, text) = row?;
                    match read(&seals, &text) {
                        Some(write) => all.push((id, write)),
                        None => tracing::error!(id, "a write that waits cannot be read, and is passed over"),
                    }
                }
                Ok(all)
            })
            .await
    }

    /// Adds a write at the end, in the place of those with the numbers `void`.
    pub(crate) async fn enqueue(&self, void: Vec<i64>, write: Write) -> Result<Full, StoreError> {
        let seals = self.seals.clone();
        self.store.write(move |tx| add(tx, &void, text(&seals, &write)?)).await
    }

    /// It was carried out, or never will be.
    pub(crate) async fn dequeue(&self, id: i64) -> Result<(), StoreError> {
        self.store.write(move |tx| tx.execute("DELETE FROM queue WHERE id = ?1", [id]).map(drop)).await
    }

    /// Keeps the answer to a request for a token. `place` says which.
    pub(crate) async fn keep_token(&self, place: String, body: String, now: i64) -> Result<(), StoreError> {
        let seals = self.seals.clone();
        self.store
            .write(move |tx| {
                let body = seals.close(&token_row(&place), &body)?;
                tx.execute("INSERT OR REPLACE INTO tokens(place, seen, body) VALUES (?1, ?2, ?3)", params![place, now, body])?;
                tx.execute(
                    "DELETE FROM tokens WHERE place IN (SELECT place FROM tokens ORDER BY seen DESC LIMIT -1 OFFSET ?1)",
                    [TOKENS],
                )
                .map(drop)
            })
            .await
    }

    pub(crate) async fn token(&self, place: String) -> Result<Option<String>, StoreError> {
        let seals = self.seals.clone();
        self.store
            .read(move |db| {
                let found: Option<String> = db
                    .query_row("SELECT body FROM tokens WHERE place = ?1", [&place], |row| row.get(0))
                    .optional()?;
                Ok(found.and_then(|body| seals.open(&token_row(&place), body)))
            })
            .await
    }
}

fn token_row(place: &str) -> String {
    format!("metaserver/token/{place}")
}
