//! The outbox: upstream messages that must reach the cloud, kept in SQLite until it answers them.
//!
//! ```text
//! submit --commit--> row(seq) --next(after)--> EdgeHub sends it --answer--> done(seq) deletes it
//!                      ^ same merge key: the newer row replaces the older, under a new seq
//! ```
//!
//! Bounded per stream: states hold one row per object, events and twin reports drop their oldest row past the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use message::{Message, Upstream};
use store::rusqlite::{Transaction, params};
use store::{Store, StoreError};
use tokio::sync::Notify;

/// Handle of the outbox.
#[derive(Clone)]
pub struct Outbox {
    store: Store,
    /// Told after every commit that added a row.
    added: Arc<Notify>,
    /// Rows dropped because their stream was full, since start.
    dropped: Arc<AtomicU64>,
}

/// A message that waits to be sent.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub seq: i64,
    pub message: Message,
}

#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("storing an upstream message")]
    Store(#[source] StoreError),
}

/// Kubernetes events kept while the link is down; older ones are worth less than disk.
const MAX_EVENTS: i64 = 1_000;
/// Twin and state reports kept while the link is down.
const MAX_REPORTS: i64 = 20_000;
/// Requests about pods and the node: bounded by live objects, limited all the same.
const MAX_STATES: i64 = 5_000;

fn stream(item: &Upstream) -> (&'static str, i64) {
    match item {
        Upstream::Event { .. } => ("event", MAX_EVENTS),
        Upstream::TwinReport { .. } | Upstream::DeviceState { .. } => ("report", MAX_REPORTS),
        _ => ("state", MAX_STATES),
    }
}

impl Outbox {
    pub fn new(store: Store) -> Outbox {
        Outbox { store, added: Arc::new(Notify::new()), dropped: Arc::new(AtomicU64::new(0)) }
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
        let (stream, limit) = stream(&item);
        let merge_key = item.coalesce_key();
        let text = message::encode(&item.to_message(daemon::clock::unix_ms()));
        let (added, dropped) = (self.added.clone(), self.dropped.clone());
        self.store
            .write_then(
                move |tx| {
                    also(tx)?;
                    insert(tx, stream, limit, merge_key, &text)
                },
                move |over| {
                    dropped.fetch_add(*over, Ordering::Relaxed);
                    added.notify_one();
                },
            )
            .await
            .map(|_| ())
            .map_err(SubmitError::Store)
    }

    /// Makes [`Outbox::added`] return: room was made for rows that wait already.
    pub fn wake(&self) {
        self.added.notify_one();
    }

    /// Waits until a row may have been added since the last call.
    pub async fn added(&self) {
        self.added.notified().await;
    }

    /// Up to `limit` messages with a sequence above `after`, oldest first.
    pub async fn next(&self, after: i64, limit: usize) -> Result<Vec<Waiting>, StoreError> {
        self.store
            .read(move |db| {
                let mut statement = db
                    .prepare_cached("SELECT seq, message FROM outbox WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
                let rows = statement.query_map(params![after, limit as i64], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
                })?;
                let mut waiting = Vec::new();
                for row in rows {
                    let (seq, text) = row?;
                    match message::decode(text.as_bytes()) {
                        Ok(message) => waiting.push(Waiting { seq, message }),
                        Err(error) => tracing::error!(seq, error = %error, "unreadable outbox row skipped"),
                    }
                }
                Ok(waiting)
            })
            .await
    }

    /// Removes messages the cloud has answered.
    pub async fn done(&self, seqs: Vec<i64>) -> Result<(), StoreError> {
        self.store
            .write(move |tx| {
                let mut statement = tx.prepare_cached("DELETE FROM outbox WHERE seq = ?1")?;
                seqs.iter().try_for_each(|seq| statement.execute([seq]).map(|_| ()))
            })
            .await
    }

    /// Messages dropped because their stream was full, since start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Returns how many rows were dropped to make room.
fn insert(
    tx: &Transaction<'_>,
    stream: &str,
    limit: i64,
    merge_key: Option<String>,
    text: &str,
) -> store::rusqlite::Result<u64> {
    tx.prepare_cached("INSERT OR REPLACE INTO outbox(stream, merge_key, message) VALUES (?1, ?2, ?3)")?
        .execute(params![stream, merge_key, text])?;
    let over = tx
        .prepare_cached(
            "DELETE FROM outbox WHERE stream = ?1 AND seq <= (SELECT seq FROM outbox WHERE stream = ?1
             ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![stream, limit])?;
    Ok(over as u64)
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

    #[tokio::test]
    async fn events_past_the_limit_push_out_the_oldest_and_are_counted() {
        let (_folder, outbox) = outbox();
        for n in 0..(MAX_EVENTS + 3) {
            let event = Upstream::Event {
                namespace: "d".into(),
                name: n.to_string(),
                verb: Verb::Create,
                object: Json::null(),
            };
            outbox.submit(event).await.unwrap();
        }
        let left = outbox.next(0, 5_000).await.unwrap();
        assert_eq!(left.len() as i64, MAX_EVENTS);
        assert_eq!(left[0].message.route.resource, "d/event/3");
        assert_eq!(outbox.dropped(), 3);
    }
}
