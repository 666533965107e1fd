//! One EdgeCore: the real statements on a real SQLite database, and the real exchange. The database survives crashes.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Context, Result, ensure};
use edgecore::edgehub::exchange::{self, Effect, Exchange, Ticketed};
use edgecore::metamanager::objects::{self, Change};
use edgecore::metamanager::outbox::{self, Limits};
use edgecore::metamanager::sealed::Seals;
use message::{Json, ObjectKind, Upstream};
use native::frames::Failed;
use store::rusqlite::Connection as Database;

use crate::api::{Api, edge_name, node_of};
use crate::cloud::is_for_edge;
use crate::network::{Connection, decode};

pub struct Link {
    pub connection: u64,
    exchange: Exchange,
    /// Batches received and not committed.
    pending: VecDeque<Vec<Ticketed>>,
    /// The cloud said that everything is stored.
    pub in_step: bool,
}

pub struct Edge {
    number: usize,
    db: Database,
    seals: Seals,
    pub link: Option<Link>,
    /// Newest version ever stored of each uid.
    versions: BTreeMap<String, u64>,
    /// Values reported so far, per device.
    pub reported: BTreeMap<String, Vec<u64>>,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    Durable,
    /// The power fails before it is on disk.
    Torn,
    /// The disk is full.
    Refused,
}

impl Edge {
    pub fn new(number: usize) -> Result<Edge> {
        let db = Database::open_in_memory()?;
        for script in edgecore::database::schema() {
            db.execute_batch(script)?;
        }
        Ok(Edge {
            number,
            db,
            seals: Seals::default(),
            link: None,
            versions: BTreeMap::new(),
            reported: BTreeMap::new(),
        })
    }

    /// Says hello on a new connection.
    pub fn connect(&mut self, connection: &mut Connection) -> Result<()> {
        let store =
            self.db.query_row("SELECT value FROM facts WHERE name = 'store'", [], |row| row.get(0))?;
        connection.send_up(exchange::hello(store, 15, objects::digests(&self.db, &self.seals)?));
        self.link = Some(Link {
            connection: connection.id,
            exchange: Exchange::default(),
            pending: VecDeque::new(),
            in_step: false,
        });
        Ok(())
    }

    /// A device reports its next value.
    pub fn report(&mut self, device: &str) -> Result<()> {
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
    pub fn receive(&mut self, connection: &mut Connection) -> Result<bool> {
        let Some(link) = &mut self.link else { return Ok(false) };
        let Some(bytes) = connection.down.pop_front() else { return Ok(false) };
        let body = decode(&bytes)?;
        ensure!(is_for_edge(&body), "the cloud sent an edge's frame");
        match link.exchange.on_frame(body).context("the cloud broke the protocol")? {
            Effect::List(kinds) => {
                for frame in exchange::listed(objects::held(&self.db, &kinds, &self.seals)?) {
                    connection.send_up(frame);
                }
            }
            Effect::Commit(batch) => link.pending.push_back(batch),
            Effect::Finished(seqs) => {
                outbox::remove(&self.db, &seqs)?;
            }
            Effect::InStep => {
                ensure!(link.pending.is_empty() && !link.in_step, "in step too early, or twice");
                link.in_step = true;
            }
            Effect::Welcomed { .. } | Effect::Deliver(_) => {}
        }
        Ok(true)
    }

    /// Sends rows of the outbox.
    pub fn send(&mut self, connection: &mut Connection) -> Result<bool> {
        let Some(link) = &mut self.link else { return Ok(false) };
        let rows = outbox::next(&self.db, link.exchange.cursors, link.exchange.room())?;
        let frames = link.exchange.rows(rows);
        let sent = !frames.is_empty();
        frames.into_iter().for_each(|frame| connection.send_up(frame));
        Ok(sent)
    }

    /// Ends the oldest transaction under way.
    pub fn commit(&mut self, connection: &mut Connection, how: Commit, api: &Api) -> Result<bool> {
        let Some(link) = &mut self.link else { return Ok(false) };
        let Some(batch) = link.pending.pop_front() else { return Ok(false) };
        let tickets: Vec<u64> = batch.iter().map(|change| change.ticket).collect();
        let through = *tickets.last().context("an empty batch")?;
        let arrivals = batch.into_iter().map(|change| change.arrival).collect();
        let transaction = self.db.unchecked_transaction()?;
        let committed = objects::commit(&transaction, arrivals, &self.seals)?;
        let failed = match how {
            Commit::Torn => {
                transaction.rollback()?;
                self.link = None;
                return Ok(true);
            }
            Commit::Refused => {
                transaction.rollback()?;
                let refused = |ticket| Failed { ticket, base_missing: false, reason: "disk full".into() };
                tickets.into_iter().map(refused).collect()
            }
            Commit::Durable => {
                transaction.commit()?;
                for change in &committed.changed {
                    check(self.number, &mut self.versions, change, api)?;
                }
                let missing = committed.base_missing.iter().map(|at| tickets[*at]);
                missing.map(|ticket| Failed { ticket, base_missing: true, reason: String::new() }).collect()
            }
        };
        connection.send_up(exchange::committed(through, failed));
        Ok(true)
    }

    /// Name and mark of everything held, by kind and name.
    pub fn held(&self) -> Result<BTreeMap<String, u64>> {
        let kinds: Vec<String> = apimachinery::kinds::synced().iter().map(ToString::to_string).collect();
        let held = objects::held(&self.db, &kinds, &self.seals)?;
        Ok(held.into_iter().map(|held| (format!("{} {}", held.resource, held.uid), held.mark)).collect())
    }

    pub fn outbox_rows(&self) -> Result<i64> {
        Ok(self.db.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?)
    }
}

/// No version goes back, and no pod goes while it exists.
fn check(
    edge: usize,
    versions: &mut BTreeMap<String, u64>,
    change: &objects::ObjectChange,
    api: &Api,
) -> Result<()> {
    match &change.change {
        Change::Put { version, object } => {
            let version: u64 = version.0.parse()?;
            let uid =
                object.parse::<serde_json::Value>()?["metadata"]["uid"].as_str().unwrap_or("").to_owned();
            let before = versions.insert(uid.clone(), version).unwrap_or_default();
            ensure!(version >= before, "{} went from version {before} back to {version}", change.key);
        }
        Change::Remove { uid } if change.key.kind == ObjectKind::Pod => {
            let alive = api.find(&ObjectKind::Pod, &change.key.name).is_some_and(|pod| {
                Some(&pod.meta.uid) == uid.as_ref() && node_of(pod).as_deref() == Some(&edge_name(edge))
            });
            ensure!(!alive, "pod {} was taken from its node while it exists", change.key);
        }
        Change::Remove { .. } => {}
    }
    Ok(())
}
