//! The native dialect: the exchanges of both ends.

use std::collections::VecDeque;

use anyhow::{Context, Result, ensure};
use cloudcore::cloudhub::exchange as cloud;
use cloudcore::desired::NodeSet;
use cloudcore::devicecontroller::Stamp;
use edgehub::exchange::{self, Exchange, TakesStreams, Ticketed};
use message::Upstream;
use metamanager::objects::{self, Arrival};
use metamanager::outbox;
use metamanager::sealed::Seals;
use native::frames::Failed;
use native::frames::frame::Body;
use store::rusqlite::Connection as Database;
use tokio::time::Instant;

use super::{CloudHalf, Committed, EdgeHalf, Effect, Wants};
use crate::api::Api;

fn decode(frame: &[u8]) -> Result<Body> {
    native::decode(frame).context("a frame that was sent is not readable")
}

pub(crate) struct Cloud {
    exchange: cloud::Exchange,
    /// Rows under way: the API server may have taken them or not.
    running: Vec<(u64, cloud::Submitted)>,
}

impl Cloud {
    pub(crate) fn new(epoch: u64) -> Cloud {
        Cloud { exchange: cloud::Exchange::new(epoch), running: Vec::new() }
    }
}

impl CloudHalf for Cloud {
    fn receive(&mut self, frame: &[u8], set: &NodeSet) -> Result<Wants> {
        let body = decode(frame)?;
        let effects = set.with(|desired| self.exchange.on_frame(body, desired));
        let mut wants = Wants::default();
        for effect in effects.context("the edge broke the protocol")? {
            match effect {
                cloud::Effect::Send(body) => wants.frames.push(native::encode(body)),
                cloud::Effect::Compared => wants.compared = true,
                cloud::Effect::Answer(..) | cloud::Effect::Refused(_) => {}
            }
        }
        Ok(wants)
    }

    fn send(&mut self, set: &NodeSet, compared: bool, now: Instant) -> Vec<Vec<u8>> {
        let done = self.exchange.done();
        let objects = set.with(|desired| self.exchange.objects(desired, now));
        let in_step = match &objects {
            None if compared => set.with(|desired| self.exchange.in_step(desired)),
            _ => None,
        };
        [done, objects, in_step].into_iter().flatten().map(native::encode).collect()
    }

    fn start_row(&mut self) -> bool {
        let started = self.exchange.rows.start();
        let is_some = started.is_some();
        self.running.extend(started);
        is_some
    }

    /// A row that the API server refuses stays under way.
    fn carry_out(&mut self, which: usize, api: &mut Api, told: bool) -> Result<bool> {
        if self.running.is_empty() || api.refuses {
            return Ok(false);
        }
        let at = which % self.running.len();
        let (_, row) = &self.running[at];
        let Some(Upstream::TwinReport { name, report, .. }) = row.upstream.as_deref() else {
            anyhow::bail!("an edge of this simulation sends reports only")
        };
        ensure!(!self.exchange.store.is_empty(), "a row came before the hello");
        let stamp = Stamp { store: self.exchange.store.clone(), seq: row.seq };
        api.report(name, report.parse()?, Some(stamp));
        if told {
            let (place, row) = self.running.remove(at);
            self.exchange.finish(place, row.bytes);
        }
        Ok(true)
    }

    fn waits(&self, _: &NodeSet) -> bool {
        false
    }
}

pub(crate) struct Edge {
    exchange: Exchange,
    seals: Seals,
    /// Batches received and not committed.
    pending: VecDeque<Vec<Ticketed>>,
    /// Tickets of the batch that is being committed.
    committing: Vec<u64>,
}

impl Edge {
    /// With its first frame.
    pub(crate) fn connect(db: &Database, seals: &Seals) -> Result<(Edge, Vec<Vec<u8>>)> {
        let store = db.query_row("SELECT value FROM facts WHERE name = 'store'", [], |row| row.get(0))?;
        let hello = exchange::hello(store, 15, objects::digests(db, seals)?, TakesStreams::None);
        let edge = Edge {
            exchange: Exchange::default(),
            seals: seals.clone(),
            pending: VecDeque::new(),
            committing: Vec::new(),
        };
        Ok((edge, vec![native::encode(hello)]))
    }
}

impl EdgeHalf for Edge {
    fn receive(&mut self, frame: &[u8], db: &Database) -> Result<Effect> {
        let body = decode(frame)?;
        ensure!(is_for_edge(&body), "the cloud sent an edge's frame");
        Ok(match self.exchange.on_frame(body).context("the cloud broke the protocol")? {
            exchange::Effect::List(kinds) => {
                let held = exchange::listed(objects::held(db, &kinds, &self.seals)?);
                Effect::Send(held.into_iter().map(native::encode).collect())
            }
            exchange::Effect::Commit(batch) => {
                self.pending.push_back(batch);
                Effect::Pending
            }
            exchange::Effect::Finished(seqs) => Effect::Finished(seqs),
            exchange::Effect::InStep => Effect::InStep,
            exchange::Effect::Welcomed { .. }
            | exchange::Effect::Deliver(_)
            | exchange::Effect::Stream(_) => Effect::Nothing,
        })
    }

    fn next_commit(&mut self) -> Option<Vec<Arrival>> {
        let batch = self.pending.pop_front()?;
        self.committing = batch.iter().map(|change| change.ticket).collect();
        Some(batch.into_iter().map(|change| change.arrival).collect())
    }

    fn committed(&mut self, how: Committed<'_>) -> Vec<Vec<u8>> {
        let tickets = std::mem::take(&mut self.committing);
        let through = tickets.last().copied().unwrap_or_default();
        let failed = |ticket: &u64, base_missing, reason: &str| Failed {
            ticket: *ticket,
            base_missing,
            reason: reason.to_owned(),
        };
        let failed = match how {
            Committed::Refused => tickets.iter().map(|ticket| failed(ticket, false, "disk full")).collect(),
            Committed::Stored(missing) => missing
                .iter()
                .filter_map(|at| tickets.get(*at))
                .map(|ticket| failed(ticket, true, ""))
                .collect(),
        };
        vec![native::encode(exchange::committed(through, failed))]
    }

    fn send(&mut self, db: &Database, _: Instant) -> Result<Vec<Vec<u8>>> {
        let rows = outbox::next(db, self.exchange.cursors, self.exchange.room())?;
        Ok(self.exchange.rows(rows).into_iter().map(native::encode).collect())
    }

    fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn waits(&self) -> bool {
        false
    }
}

/// Bodies only an edge takes.
fn is_for_edge(body: &Body) -> bool {
    !matches!(body, Body::Hello(_) | Body::Inventory(_) | Body::Stored(_) | Body::Submit(_) | Body::Call(_))
}
