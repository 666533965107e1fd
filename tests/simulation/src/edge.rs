//! One EdgeCore: the real statements on a real SQLite database, and the real exchange. The database survives crashes.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use message::{Json, ObjectKind, Upstream};
use metamanager::objects::{self, Change};
use metamanager::outbox::{self, Limits};
use metamanager::sealed::Seals;
use store::rusqlite::Connection as Database;
use tokio::time::Instant;

use crate::api::{Api, Object, edge_name, node_of};
use crate::half::{self, Committed, Dialect, EdgeHalf, Effect};
use crate::network::Connection;

pub(crate) struct Link {
    pub connection: u64,
    half: Box<dyn EdgeHalf>,
    /// The cloud said that everything is stored.
    pub in_step: bool,
}

pub(crate) struct Edge {
    number: usize,
    dialect: Dialect,
    db: Database,
    seals: Seals,
    pub link: Option<Link>,
    /// The cloud knows of this start of EdgeCore.
    is_registered: bool,
    seen: Seen,
    /// A disk was lost: what was reported before may be lost, and what was under way may be written late.
    pub has_lost_reports: bool,
    /// Values reported so far, per device.
    pub reported: BTreeMap<String, Vec<u64>>,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    Durable,
    /// The power fails before it is on disk.
    Torn,
    /// The disk is full.
    Refused,
}

impl Edge {
    pub(crate) fn new(number: usize, dialect: Dialect) -> Result<Edge> {
        Ok(Edge {
            number,
            dialect,
            db: empty_database()?,
            seals: Seals::default(),
            link: None,
            is_registered: false,
            seen: Seen::default(),
            has_lost_reports: false,
            reported: BTreeMap::new(),
        })
    }

    /// Says hello on a new connection.
    pub(crate) fn connect(&mut self, connection: &mut Connection) -> Result<()> {
        let (half, frames): (Box<dyn EdgeHalf>, _) = match self.dialect {
            Dialect::Native => {
                let (edge, frames) = half::native::Edge::connect(&self.db, &self.seals)?;
                (Box::new(edge), frames)
            }
            Dialect::KubeEdge => {
                let name = edge_name(self.number);
                let (edge, frames) = half::kubeedge::Edge::connect(&name, !self.is_registered)?;
                (Box::new(edge), frames)
            }
        };
        connection.send_up(frames);
        self.link = Some(Link { connection: connection.id, half, in_step: false });
        Ok(())
    }

    /// EdgeCore dies; its database stays as the last transaction left it.
    pub(crate) fn die(&mut self) {
        self.link = None;
        self.is_registered = false;
    }

    /// EdgeCore dies, and its disk is gone with what was not sent.
    pub(crate) fn lose_disk(&mut self) -> Result<()> {
        self.die();
        self.db = empty_database()?;
        self.seen = Seen::default();
        self.has_lost_reports = true;
        Ok(())
    }

    /// A device reports its next value.
    pub(crate) fn report(&mut self, device: &str) -> Result<()> {
        let device = format!("{}-{device}", edge_name(self.number));
        let values = self.reported.entry(device.clone()).or_default();
        let value = values.len() as u64 + 1;
        values.push(value);
        let report = Json::encode(&value)?;
        let item = Upstream::TwinReport { namespace: "d".into(), name: device, report };
        let text = message::encode(&item.to_message(0));
        outbox::insert(&self.db, "report", Limits::default().reports, item.coalesce_key(), &text)?;
        Ok(())
    }

    /// Takes the next frame of the cloud.
    pub(crate) fn receive(&mut self, connection: &mut Connection) -> Result<bool> {
        let Some(link) = &mut self.link else { return Ok(false) };
        let Some(frame) = connection.down.pop_front() else { return Ok(false) };
        match link.half.receive(&frame, &self.db)? {
            Effect::Send(frames) => connection.send_up(frames),
            Effect::Finished(seqs) => half::remove(&self.db, &seqs)?,
            Effect::InStep => {
                ensure!(!link.half.is_pending() && !link.in_step, "in step too early, or twice");
                link.in_step = true;
            }
            Effect::Registered => self.is_registered = true,
            Effect::Nothing | Effect::Pending => {}
        }
        Ok(true)
    }

    /// Sends rows of the outbox.
    pub(crate) fn send(&mut self, connection: &mut Connection, now: Instant) -> Result<bool> {
        let Some(link) = &mut self.link else { return Ok(false) };
        let frames = link.half.send(&self.db, now)?;
        let sent = !frames.is_empty();
        connection.send_up(frames);
        Ok(sent)
    }

    /// Ends the oldest transaction under way.
    pub(crate) fn commit(&mut self, connection: &mut Connection, how: Commit, api: &Api) -> Result<bool> {
        let Some(link) = &mut self.link else { return Ok(false) };
        let Some(arrivals) = link.half.next_commit() else { return Ok(false) };
        let transaction = self.db.unchecked_transaction()?;
        let committed = objects::commit(&transaction, arrivals, &self.seals)?;
        let answer = match how {
            Commit::Torn => {
                transaction.rollback()?;
                self.die();
                return Ok(true);
            }
            Commit::Refused => {
                transaction.rollback()?;
                Committed::Refused
            }
            Commit::Durable => {
                transaction.commit()?;
                for change in &committed.changed {
                    self.seen.check(self.number, self.dialect, change, api)?;
                }
                Committed::Stored(&committed.base_missing)
            }
        };
        connection.send_up(link.half.committed(answer));
        Ok(true)
    }

    /// True if it will send again by itself.
    pub(crate) fn waits(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.half.waits())
    }

    /// True if the cloud said that everything is here, where its dialect can say so.
    pub(crate) fn is_in_step(&self) -> bool {
        self.dialect == Dialect::KubeEdge || self.link.as_ref().is_some_and(|link| link.in_step)
    }

    /// Name and mark of everything held, by kind and name.
    pub(crate) fn held(&self) -> Result<BTreeMap<String, u64>> {
        let kinds: Vec<String> = apimachinery::kinds::synced().iter().map(ToString::to_string).collect();
        let held = objects::held(&self.db, &kinds, &self.seals)?;
        let marked = held.into_iter().map(|held| {
            // KubeEdge's dialect tells no marks.
            let mark = match self.dialect {
                Dialect::Native => held.mark,
                Dialect::KubeEdge => native::mark(&self.stored(&held.resource)?),
            };
            Ok((format!("{} {}", held.resource, held.uid), mark))
        });
        marked.collect()
    }

    fn stored(&self, key: &str) -> Result<Json> {
        let sql = "SELECT value FROM meta WHERE key = ?1";
        let text: String = self.db.query_row(sql, [key], |row| row.get(0))?;
        Ok(Json::from_text(text)?)
    }

    pub(crate) fn outbox_rows(&self) -> Result<i64> {
        Ok(self.db.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?)
    }
}

fn empty_database() -> Result<Database> {
    let db = Database::open_in_memory()?;
    for script in metamanager::database::schema() {
        db.execute_batch(script)?;
    }
    Ok(db)
}

/// What an edge has stored.
#[derive(Default)]
struct Seen {
    /// Newest version ever stored of each uid.
    versions: BTreeMap<String, u64>,
    /// The uid that is stored under each name.
    uids: BTreeMap<String, String>,
}

impl Seen {
    /// No version goes back, no pod goes while it exists, and nothing that exists is replaced by another of its name.
    fn check(
        &mut self,
        edge: usize,
        dialect: Dialect,
        change: &objects::ObjectChange,
        api: &Api,
    ) -> Result<()> {
        let key = change.key.to_string();
        let exists = |uid: Option<&String>| {
            api.find(&change.key.kind, &change.key.name).is_some_and(|object| Some(&object.meta.uid) == uid)
        };
        match &change.change {
            Change::Put { version, object } => {
                let version: u64 = version.0.parse()?;
                let uid =
                    object.parse::<serde_json::Value>()?["metadata"]["uid"].as_str().unwrap_or("").to_owned();
                let before = self.versions.insert(uid.clone(), version).unwrap_or_default();
                ensure!(version >= before, "{key} went from version {before} back to {version}");
                let other = self.uids.insert(key.clone(), uid.clone()).filter(|other| *other != uid);
                // A cloud of KubeEdge's dialect that lags behind may not have heard of what the node took from another one.
                let may_know = dialect == Dialect::Native;
                let is_wrong = may_know && exists(other.as_ref());
                ensure!(!is_wrong, "{key} was replaced by {uid} while it exists as {other:?}");
            }
            Change::Remove { uid } => {
                self.uids.remove(&key);
                if change.key.kind == ObjectKind::Pod {
                    let here = |pod: &Object| node_of(pod).as_deref() == Some(&edge_name(edge));
                    let is_here = api.find(&ObjectKind::Pod, &change.key.name).is_some_and(here);
                    ensure!(
                        !(is_here && exists(uid.as_ref())),
                        "{key} was taken from its node while it exists"
                    );
                }
            }
        }
        Ok(())
    }
}
