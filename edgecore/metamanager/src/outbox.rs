//! The outbox: upstream messages that must reach the cloud, kept in SQLite until it answers them.
//!
//! ```text
//! submit --commit--> row(seq) --next--> EdgeHub sends it --answer--> done(seq) deletes it
//!                      ^ same merge key: a state replaces the older one, under a new seq
//!
//! report --no other of its device waits--> row(seq) in `report`
//!        --one waits or is under way-----> `newer`: replaces what is there --answer to the first--> row(seq') in `report`
//! ```
//!
//! | stream | holds | order | when full |
//! |---|---|---|---|
//! | state | newest status of each object | newest replaces | its writers wait |
//! | report | twins and device states | kept | oldest dropped, counted |
//! | newer | of each object with a row in `report`, the newest report after it | newest replaces | with `report` |
//! | event | Kubernetes events | kept | oldest dropped, counted |
//!
//! States are sent before reports and events: a status must not wait behind an hour of telemetry. A report tells the whole
//! state of its device, so what a newer one replaces is not lost; the first keeps its place, so a device that reports all
//! the time is neither sent all the time nor put off for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use message::{Message, Request, Upstream};
use store::rusqlite::{Connection, OptionalExtension, Transaction, params};
use store::{Store, StoreError};
use tokio::sync::{Notify, watch};

/// What happens to a message whose stream is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Its writer waits.
    Block,
    /// The oldest rows go, and are counted.
    DropOldest,
}

/// Limit of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bytes of messages on disk.
    pub bytes: i64,
    pub policy: Policy,
}

/// Limits of all streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub states: Limit,
    pub reports: Limit,
    pub events: Limit,
}

const MIB: i64 = 1024 * 1024;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            states: Limit { bytes: 16 * MIB, policy: Policy::Block },
            reports: Limit { bytes: 64 * MIB, policy: Policy::DropOldest },
            events: Limit { bytes: 2 * MIB, policy: Policy::DropOldest },
        }
    }
}

/// Handle of the outbox.
#[derive(Clone)]
pub struct Outbox {
    store: Store,
    limits: Limits,
    /// Told after every commit that added a row.
    added: Arc<Notify>,
    /// Told after every commit that removed rows.
    removed: Arc<Notify>,
    /// Told after every commit.
    changed: watch::Sender<()>,
    /// Rows dropped because their stream was full, since start.
    dropped: Arc<AtomicU64>,
}

/// A message that waits to be sent.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub seq: i64,
    /// A state: it goes before reports and events.
    pub state: bool,
    pub message: Message,
}

/// Places in the two queues: rows up to them were sent in this session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursors {
    pub states: i64,
    pub others: i64,
}

/// Rows that may be read: that many states, and that many others, but no more of both than there may be states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub states: usize,
    pub others: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("storing an upstream message")]
    Store(#[source] StoreError),
}

/// States that are read at most where those of pods are wanted.
const STATUSES: usize = 10_000;

const STATE: &str = "state";
const REPORT: &str = "report";
const NEWER: &str = "newer";
const EVENT: &str = "event";

/// The streams, as rows name them.
pub const STREAMS: [&str; 4] = [STATE, REPORT, NEWER, EVENT];

fn stream(item: &Upstream, limits: &Limits) -> (&'static str, Limit) {
    match item {
        Upstream::Event { .. } => (EVENT, limits.events),
        Upstream::TwinReport { .. } | Upstream::DeviceState { .. } => (REPORT, limits.reports),
        _ => (STATE, limits.states),
    }
}

impl Outbox {
    pub fn new(store: Store) -> Outbox {
        Outbox::with_limits(store, Limits::default())
    }

    pub fn with_limits(store: Store, limits: Limits) -> Outbox {
        let changed = watch::Sender::new(());
        Outbox {
            store,
            limits,
            added: Arc::default(),
            removed: Arc::default(),
            changed,
            dropped: Arc::default(),
        }
    }

    /// Keeps a message until the cloud answers it. Returns once it is on disk. A state submitted again replaces the
    /// one still waiting.
    pub async fn submit(&self, item: Upstream) -> Result<(), SubmitError> {
        self.submit_with(item, |_| Ok(())).await
    }

    /// Like [`Outbox::submit`], with more statements in the same transaction: both happen or neither.
    pub async fn submit_with<F>(&self, item: Upstream, also: F) -> Result<(), SubmitError>
    where
        F: FnOnce(&Transaction<'_>) -> store::rusqlite::Result<()> + Send + 'static,
    {
        self.submit_all_with(vec![item], also).await
    }

    /// Like [`Outbox::submit_with`] for several messages, which are kept in their order.
    pub async fn submit_all_with<F>(&self, items: Vec<Upstream>, also: F) -> Result<(), SubmitError>
    where
        F: FnOnce(&Transaction<'_>) -> store::rusqlite::Result<()> + Send + 'static,
    {
        let mut rows = Vec::with_capacity(items.len());
        for item in items {
            let (stream, limit) = stream(&item, &self.limits);
            if limit.policy == Policy::Block {
                self.room(stream, limit.bytes).await.map_err(SubmitError::Store)?;
            }
            let text = message::encode(&item.to_message(daemon::clock::unix_ms()));
            rows.push((stream, limit, item.coalesce_key(), text));
        }
        let (added, changed, dropped) = (self.added.clone(), self.changed.clone(), self.dropped.clone());
        let write = move |tx: &Transaction<'_>| {
            also(tx)?;
            let over =
                rows.into_iter().map(|(stream, limit, key, text)| insert(tx, stream, limit, key, &text));
            over.sum::<store::rusqlite::Result<u64>>()
        };
        let after = move |over: &u64| {
            dropped.fetch_add(*over, Ordering::Relaxed);
            added.notify_one();
            changed.send_replace(());
        };
        self.store.write_then(write, after).await.map(|_| ()).map_err(SubmitError::Store)
    }

    /// Waits until the stream holds less than `limit` bytes.
    async fn room(&self, stream: &'static str, limit: i64) -> Result<(), StoreError> {
        loop {
            let removed = self.removed.notified();
            if self.store.read(move |db| bytes(db, stream)).await? < limit {
                return Ok(());
            }
            removed.await;
        }
    }

    /// Waits until a row may have been added since the last call.
    pub async fn added(&self) {
        self.added.notified().await;
    }

    /// Up to `limit` messages with a sequence above `after`, oldest first, of all streams that are sent.
    pub async fn next(&self, after: i64, limit: usize) -> Result<Vec<Waiting>, StoreError> {
        self.store.read(move |db| next_in_order(db, after, limit)).await
    }

    /// The messages beyond `after` there is room for: states first, then the others, each oldest first.
    pub async fn next_of_both(&self, after: Cursors, room: Room) -> Result<Vec<Waiting>, StoreError> {
        self.store.read(move |db| next(db, after, room)).await
    }

    /// Removes messages the cloud has answered; newer reports take their turn.
    pub async fn done(&self, seqs: Vec<i64>) -> Result<(), StoreError> {
        let (added, removed, changed) = (self.added.clone(), self.removed.clone(), self.changed.clone());
        let after = move |advanced: &usize| {
            removed.notify_waiters();
            changed.send_replace(());
            if *advanced > 0 {
                added.notify_one();
            }
        };
        self.store.write_then(move |tx| remove(tx, &seqs), after).await.map(|_| ())
    }

    /// Gives up those of `seqs` that are reports with a newer one behind them, which says all they say, and returns them.
    /// For clouds that leave reports without an answer.
    pub async fn overtake(&self, seqs: Vec<i64>) -> Result<Vec<i64>, StoreError> {
        let overtaken = self.store.read(move |db| with_newer(db, &seqs)).await?;
        if !overtaken.is_empty() {
            self.done(overtaken.clone()).await?;
        }
        Ok(overtaken)
    }

    /// Told of every change.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The statuses of pods that the cloud has not taken yet: namespace, name, and the patch of each.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn pod_statuses(&self) -> Result<Vec<(String, String, String)>, StoreError> {
        let waiting = self.store.read(|db| select(db, &[STATE], 0, STATUSES)).await?;
        let statuses = waiting.into_iter().filter_map(|one| match Upstream::parse(&one.message) {
            Ok(Upstream::Ask(Request::PatchPodStatus { namespace, name, patch })) => {
                Some((namespace, name, patch))
            }
            _ => None,
        });
        Ok(statuses.collect())
    }

    /// Messages dropped because their stream was full, since start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Bytes a stream holds; those of newer reports count as reports.
fn bytes(db: &Connection, stream: &str) -> store::rusqlite::Result<i64> {
    let sql = "SELECT coalesce(sum(bytes), 0) FROM outbox_bytes WHERE stream IN (?1, ?2)";
    let also = if stream == REPORT { NEWER } else { stream };
    db.prepare_cached(sql)?.query_row([stream, also], |row| row.get(0))
}

/// The query of [`Outbox::next`].
pub fn next_in_order(db: &Connection, after: i64, limit: usize) -> store::rusqlite::Result<Vec<Waiting>> {
    select(db, &[STATE, REPORT, EVENT], after, limit)
}

/// The query of [`Outbox::next_of_both`].
pub fn next(db: &Connection, after: Cursors, room: Room) -> store::rusqlite::Result<Vec<Waiting>> {
    let mut waiting = select(db, &[STATE], after.states, room.states)?;
    let left = room.others.min(room.states.saturating_sub(waiting.len()));
    waiting.extend(select(db, &[REPORT, EVENT], after.others, left)?);
    Ok(waiting)
}

fn select(
    db: &Connection,
    streams: &[&str],
    after: i64,
    limit: usize,
) -> store::rusqlite::Result<Vec<Waiting>> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    // Sequences first: they come from the index, and only messages that are sent are read.
    let mut seqs = Vec::new();
    let sql = "SELECT seq FROM outbox WHERE stream = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
    let mut statement = db.prepare_cached(sql)?;
    for stream in streams {
        let mut rows = statement.query(params![stream, after, limit as i64])?;
        while let Some(row) = rows.next()? {
            seqs.push(row.get::<_, i64>(0)?);
        }
    }
    seqs.sort_unstable();
    seqs.truncate(limit);
    let mut statement = db.prepare_cached("SELECT stream, message FROM outbox WHERE seq = ?1")?;
    let mut waiting = Vec::with_capacity(seqs.len());
    for seq in seqs {
        let mut rows = statement.query([seq])?;
        let Some(row) = rows.next()? else { continue };
        let state = row.get_ref(0)?.as_str()? == STATE;
        match message::decode(row.get_ref(1)?.as_bytes()?) {
            Ok(message) => waiting.push(Waiting { seq, state, message }),
            Err(error) => tracing::error!(seq, error = %error, "unreadable outbox row skipped"),
        }
    }
    Ok(waiting)
}

/// The statements of [`Outbox::done`]. Returns how many newer reports took the places of those removed.
pub fn remove(db: &Connection, seqs: &[i64]) -> store::rusqlite::Result<usize> {
    let sql = "DELETE FROM outbox WHERE seq = ?1 RETURNING stream, merge_key";
    let mut statement = db.prepare_cached(sql)?;
    let mut advanced = 0;
    for seq in seqs {
        let removed: Option<(String, Option<String>)> =
            statement.query_row([seq], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        if let Some((stream, Some(key))) = removed
            && stream == REPORT
        {
            advanced += usize::from(advance(db, &key)?);
        }
    }
    Ok(advanced)
}

/// The merge key of the report that waits behind another.
fn behind(key: &str) -> String {
    format!("{key}/newer")
}

/// The newest report takes the place of one that is gone, at the end of the line. False if there is none.
fn advance(db: &Connection, key: &str) -> store::rusqlite::Result<bool> {
    let newer = behind(key);
    // Inserted and not updated: the sequence names a report, and an answer to one must never count for another.
    let sql = "INSERT INTO outbox(stream, merge_key, message) \
               SELECT ?1, ?2, message FROM outbox WHERE merge_key = ?3";
    let advanced = db.prepare_cached(sql)?.execute(params![REPORT, key, newer])? > 0;
    if advanced {
        db.prepare_cached("DELETE FROM outbox WHERE merge_key = ?1")?.execute([newer])?;
    }
    Ok(advanced)
}

/// The statements of [`Outbox::submit`]. Returns how many rows were dropped to make room.
pub fn insert(
    db: &Connection,
    stream: &str,
    limit: Limit,
    merge_key: Option<String>,
    text: &str,
) -> store::rusqlite::Result<u64> {
    let (into, key) = match merge_key {
        Some(key) if stream == REPORT && waits(db, &key)? => (NEWER, Some(behind(&key))),
        key => (stream, key),
    };
    if let Some(key) = &key {
        // Not INSERT OR REPLACE: its deletions are not counted.
        db.prepare_cached("DELETE FROM outbox WHERE merge_key = ?1")?.execute([key])?;
    }
    db.prepare_cached("INSERT INTO outbox(stream, merge_key, message) VALUES (?1, ?2, ?3)")?
        .execute(params![into, key, text])?;
    if limit.policy == Policy::Block {
        return Ok(0);
    }
    let mut dropped = 0;
    while bytes(db, stream)? > limit.bytes {
        let oldest: Option<i64> = db
            .prepare_cached("SELECT min(seq) FROM outbox WHERE stream = ?1")?
            .query_row([stream], |row| row.get(0))?;
        let Some(oldest) = oldest else { break };
        // What a newer one took the place of is not lost.
        dropped += u64::from(remove(db, &[oldest])? == 0);
    }
    Ok(dropped)
}

/// The reports among `seqs` with a newer one behind them: the query of [`Outbox::overtake`].
pub fn with_newer(db: &Connection, seqs: &[i64]) -> store::rusqlite::Result<Vec<i64>> {
    let mut keys = db.prepare_cached("SELECT merge_key FROM outbox WHERE seq = ?1 AND stream = ?2")?;
    let mut found = Vec::new();
    for seq in seqs {
        let key: Option<Option<String>> =
            keys.query_row(params![seq, REPORT], |row| row.get(0)).optional()?;
        if let Some(Some(key)) = key
            && waits(db, &behind(&key))?
        {
            found.push(*seq);
        }
    }
    Ok(found)
}

/// True if a report with this merge key waits or is under way.
fn waits(db: &Connection, key: &str) -> store::rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM outbox WHERE merge_key = ?1")?.exists([key])
}

#[cfg(test)]
mod tests;
