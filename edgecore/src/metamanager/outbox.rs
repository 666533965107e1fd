//! The outbox: upstream messages that must reach the cloud, kept in SQLite until it answers them.
//!
//! ```text
//! submit --commit--> row(seq) --next--> EdgeHub sends it --answer--> done(seq) deletes it
//!                      ^ same merge key: the newer row replaces the older, under a new seq
//! ```
//!
//! | stream | holds | order | when full |
//! |---|---|---|---|
//! | state | newest status of each object | newest replaces | its writers wait |
//! | report | twins and device states | kept | oldest dropped, counted |
//! | event | Kubernetes events | kept | oldest dropped, counted |
//!
//! States are sent before reports and events: a status must not wait behind an hour of telemetry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use message::{Message, Upstream};
use store::rusqlite::{Connection, OptionalExtension, Transaction, params};
use store::{Store, StoreError};
use tokio::sync::Notify;

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

const STATE: &str = "state";

fn stream(item: &Upstream, limits: &Limits) -> (&'static str, Limit) {
    match item {
        Upstream::Event { .. } => ("event", limits.events),
        Upstream::TwinReport { .. } | Upstream::DeviceState { .. } => ("report", limits.reports),
        _ => (STATE, limits.states),
    }
}

impl Outbox {
    pub fn new(store: Store) -> Outbox {
        Outbox::with_limits(store, Limits::default())
    }

    pub fn with_limits(store: Store, limits: Limits) -> Outbox {
        Outbox { store, limits, added: Arc::default(), removed: Arc::default(), dropped: Arc::default() }
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
        let (added, dropped) = (self.added.clone(), self.dropped.clone());
        let write = move |tx: &Transaction<'_>| {
            also(tx)?;
            let over =
                rows.into_iter().map(|(stream, limit, key, text)| insert(tx, stream, limit, key, &text));
            over.sum::<store::rusqlite::Result<u64>>()
        };
        let after = move |over: &u64| {
            dropped.fetch_add(*over, Ordering::Relaxed);
            added.notify_one();
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

    /// Makes [`Outbox::added`] return: room was made for rows that wait already.
    pub fn wake(&self) {
        self.added.notify_one();
    }

    /// Waits until a row may have been added since the last call.
    pub async fn added(&self) {
        self.added.notified().await;
    }

    /// Up to `limit` messages with a sequence above `after`, oldest first, of all streams.
    pub async fn next(&self, after: i64, limit: usize) -> Result<Vec<Waiting>, StoreError> {
        self.store.read(move |db| select(db, ALL, after, limit)).await
    }

    /// The messages beyond `after` there is room for: states first, then the others, each oldest first.
    pub async fn next_of_both(&self, after: Cursors, room: Room) -> Result<Vec<Waiting>, StoreError> {
        self.store.read(move |db| next(db, after, room)).await
    }

    /// Removes messages the cloud has answered.
    pub async fn done(&self, seqs: Vec<i64>) -> Result<(), StoreError> {
        let removed = self.removed.clone();
        self.store.write_then(move |tx| remove(tx, &seqs), move |_| removed.notify_waiters()).await
    }

    /// Messages dropped because their stream was full, since start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Bytes a stream holds.
fn bytes(db: &Connection, stream: &str) -> store::rusqlite::Result<i64> {
    let found = db
        .prepare_cached("SELECT bytes FROM outbox_bytes WHERE stream = ?1")?
        .query_row([stream], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or_default())
}

const ALL: &str = "SELECT seq, stream, message FROM outbox WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const STATES: &str =
    "SELECT seq, stream, message FROM outbox WHERE stream = 'state' AND seq > ?1 ORDER BY seq LIMIT ?2";
const OTHERS: &str =
    "SELECT seq, stream, message FROM outbox WHERE stream <> 'state' AND seq > ?1 ORDER BY seq LIMIT ?2";

/// The query of [`Outbox::next_of_both`].
pub fn next(db: &Connection, after: Cursors, room: Room) -> store::rusqlite::Result<Vec<Waiting>> {
    let mut waiting = select(db, STATES, after.states, room.states)?;
    let left = room.others.min(room.states.saturating_sub(waiting.len()));
    waiting.extend(select(db, OTHERS, after.others, left)?);
    Ok(waiting)
}

fn select(db: &Connection, sql: &str, after: i64, limit: usize) -> store::rusqlite::Result<Vec<Waiting>> {
    let mut waiting = Vec::new();
    if limit == 0 {
        return Ok(waiting);
    }
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params![after, limit as i64])?;
    while let Some(row) = rows.next()? {
        let seq = row.get(0)?;
        let state = row.get_ref(1)?.as_str()? == STATE;
        match message::decode(row.get_ref(2)?.as_bytes()?) {
            Ok(message) => waiting.push(Waiting { seq, state, message }),
            Err(error) => tracing::error!(seq, error = %error, "unreadable outbox row skipped"),
        }
    }
    Ok(waiting)
}

/// The statements of [`Outbox::done`].
pub fn remove(db: &Connection, seqs: &[i64]) -> store::rusqlite::Result<()> {
    let mut statement = db.prepare_cached("DELETE FROM outbox WHERE seq = ?1")?;
    seqs.iter().try_for_each(|seq| statement.execute([seq]).map(|_| ()))
}

/// The statements of [`Outbox::submit`]. Returns how many rows were dropped to make room.
pub fn insert(
    db: &Connection,
    stream: &str,
    limit: Limit,
    merge_key: Option<String>,
    text: &str,
) -> store::rusqlite::Result<u64> {
    if let Some(key) = &merge_key {
        // Not INSERT OR REPLACE: its deletions are not counted.
        db.prepare_cached("DELETE FROM outbox WHERE merge_key = ?1")?.execute([key])?;
    }
    db.prepare_cached("INSERT INTO outbox(stream, merge_key, message) VALUES (?1, ?2, ?3)")?
        .execute(params![stream, merge_key, text])?;
    if limit.policy == Policy::Block {
        return Ok(0);
    }
    let mut dropped = 0;
    while bytes(db, stream)? > limit.bytes {
        let oldest = "DELETE FROM outbox WHERE seq = (SELECT min(seq) FROM outbox WHERE stream = ?1)";
        if db.prepare_cached(oldest)?.execute([stream])? == 0 {
            break;
        }
        dropped += 1;
    }
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use message::{Json, Request, Verb};

    fn status(patch: &str) -> Upstream {
        Upstream::Ask(Request::PatchPodStatus {
            namespace: "d".into(),
            name: "p".into(),
            patch: patch.into(),
        })
    }

    fn outbox() -> (tempfile::TempDir, Outbox) {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::database::open(&folder.path().join("e.db")).unwrap();
        (folder, Outbox::new(store))
    }

    #[tokio::test]
    async fn a_newer_state_replaces_the_waiting_one_and_an_answer_to_the_old_leaves_it() {
        let (_folder, outbox) = outbox();
        outbox.submit(status("1")).await.unwrap();
        let sent = outbox.next(0, 10).await.unwrap();
        outbox.submit(status("2")).await.unwrap();
        outbox.done(vec![sent[0].seq]).await.unwrap();
        let left = outbox.next(0, 10).await.unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].message.content.data(), "2");
        assert!(left[0].seq > sent[0].seq);
    }

    fn event(n: usize) -> Upstream {
        Upstream::Event {
            namespace: "d".into(),
            name: n.to_string(),
            verb: Verb::Create,
            object: Json::string(&"x".repeat(1000)),
        }
    }

    #[tokio::test]
    async fn events_past_the_limit_push_out_the_oldest_and_are_counted() {
        let (_folder, mut outbox) = outbox();
        outbox.limits.events.bytes = 12_000;
        for n in 0..12 {
            outbox.submit(event(n)).await.unwrap();
        }
        let left = outbox.next(0, 100).await.unwrap();
        assert_eq!(outbox.dropped() as usize, 12 - left.len());
        assert!((8..12).contains(&left.len()), "{}", left.len());
        assert_eq!(left.last().unwrap().message.route.resource, "d/event/11");
    }

    #[tokio::test]
    async fn a_full_stream_of_states_makes_its_writers_wait_for_room() {
        let (_folder, mut outbox) = outbox();
        outbox.limits.states.bytes = 1;
        outbox.submit(status("1")).await.unwrap();
        let second = Upstream::Ask(Request::PatchPodStatus {
            namespace: "d".into(),
            name: "other".into(),
            patch: "{}".into(),
        });
        let waiting = tokio::spawn({
            let outbox = outbox.clone();
            async move { outbox.submit(second).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let first = outbox.next(0, 1).await.unwrap()[0].seq;
        outbox.done(vec![first]).await.unwrap();
        waiting.await.unwrap().unwrap();
        assert_eq!(outbox.next(0, 10).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn states_go_before_reports_and_events_that_came_earlier() {
        let (_folder, outbox) = outbox();
        outbox.submit(event(1)).await.unwrap();
        outbox.submit(event(2)).await.unwrap();
        outbox.submit(status("1")).await.unwrap();
        let seqs = |waiting: Vec<Waiting>| waiting.iter().map(|row| row.seq).collect::<Vec<_>>();
        let room = |states, others| Room { states, others };
        let all = outbox.next_of_both(Cursors::default(), room(2, 2)).await.unwrap();
        assert!(all[0].state && !all[1].state);
        assert_eq!(seqs(all), [3, 1]);
        let rest = outbox.next_of_both(Cursors { states: 3, others: 1 }, room(10, 10)).await.unwrap();
        assert_eq!(seqs(rest), [2]);
        let only_states = outbox.next_of_both(Cursors::default(), room(2, 0)).await.unwrap();
        assert_eq!(seqs(only_states), [3]);
    }
}
