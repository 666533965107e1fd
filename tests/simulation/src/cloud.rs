//! One CloudCore replica: the real placement graph, desired sets and exchanges, fed by a watch that may lag.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use cloudcore::cloudhub::exchange::{Effect, Exchange, Submitted};
use cloudcore::cloudhub::session::leftover::{self, Found};
use cloudcore::desired::{Arrived, Change, NodeSet, Placement};
use cloudcore::devicecontroller::Stamp;
use message::{ObjectKey, Upstream};
use native::frames::frame::Body;
use tokio::time::Instant;

use crate::api::{Api, Event, Object, edge_name, node_of};
use crate::network::{Connection, decode};

pub struct Session {
    pub connection: u64,
    set: NodeSet,
    exchange: Exchange,
    /// Rows under way: the API server may have taken them or not.
    running: Vec<(u64, Submitted)>,
    compared: bool,
}

#[derive(Default)]
pub struct Replica {
    placement: Placement,
    /// Texts the API server has answered and that are not taken in.
    answers: Vec<Arrived>,
    /// Events of the log seen so far.
    seen: usize,
    pub sessions: BTreeMap<usize, Session>,
    epochs: u64,
}

impl Replica {
    /// Starts: lists everything, then watches.
    pub fn start(api: &Api) -> Replica {
        let mut replica = Replica { seen: api.log.len(), ..Replica::default() };
        for object in api.objects.values() {
            replica.placement.put(arrived(object));
        }
        replica
    }

    /// Sees the next event, if there is one.
    pub fn watch(&mut self, api: &Api) -> bool {
        if api.refuses {
            return false;
        }
        let Some(event) = api.log.get(self.seen) else { return false };
        self.seen += 1;
        let changes = match event.clone() {
            Event::Put(object) => self.placement.put(arrived(&object)),
            Event::Gone(object) => self.placement.gone(object.kind, &object.meta, object.json),
        };
        self.tell(changes);
        true
    }

    /// Asks the API server for the texts that nodes have a use for, or takes in its answer to the last time.
    pub fn fetch(&mut self, api: &Api) -> bool {
        if let Some(answer) = self.answers.pop() {
            let changes = self.placement.fetched(answer);
            self.tell(changes);
            return true;
        }
        if !api.refuses {
            let object = |key: &ObjectKey| api.find(&key.kind, &key.name).map(arrived);
            self.answers = self.placement.missing().iter().filter_map(object).collect();
        }
        !self.answers.is_empty()
    }

    fn tell(&self, changes: Vec<(String, Change)>) {
        for (node, change) in changes {
            let session = self.sessions.iter().find(|(edge, _)| edge_name(**edge) == node);
            if let Some((_, session)) = session {
                change.apply_to(&session.set);
            }
        }
    }

    /// Looks after what an edge holds and nobody wants.
    pub fn settle_leftovers(&mut self, edge: usize, api: &Api) -> bool {
        let session = self.sessions.get_mut(&edge);
        session.is_some_and(|session| session.settle_leftovers(&self.placement, edge, api))
    }

    /// A connection of `edge` begins; one it had before is over.
    pub fn accept(&mut self, edge: usize, connection: u64) {
        self.epochs += 1;
        let set = NodeSet::default();
        let snapshot = self.placement.set_of(&edge_name(edge));
        set.with(|desired| {
            desired.keep_texts();
            snapshot.into_iter().for_each(|wanted| desired.put(wanted));
        });
        let session = Session {
            connection,
            set,
            exchange: Exchange::new(self.epochs),
            running: Vec::new(),
            compared: false,
        };
        self.sessions.insert(edge, session);
    }
}

impl Session {
    /// Takes the next frame of the edge.
    pub fn receive(&mut self, connection: &mut Connection) -> Result<bool> {
        let Some(bytes) = connection.up.pop_front() else { return Ok(false) };
        let body = decode(&bytes)?;
        let effects = self.set.with(|desired| self.exchange.on_frame(body, desired));
        for effect in effects.context("the edge broke the protocol")? {
            match effect {
                Effect::Send(body) => connection.send_down(body),
                Effect::Compared => self.compared = true,
                Effect::Answer(..) | Effect::Refused(_) => {}
            }
        }
        Ok(true)
    }

    /// Sends what there is to send.
    pub fn send(&mut self, connection: &mut Connection) -> bool {
        let mut sent = false;
        if let Some(done) = self.exchange.done() {
            connection.send_down(done);
            sent = true;
        }
        let now = Instant::now();
        if let Some(objects) = self.set.with(|desired| self.exchange.objects(desired, now)) {
            connection.send_down(objects);
            sent = true;
        } else if !self.compared
            && let Some(in_step) = self.set.with(|desired| self.exchange.in_step(desired))
        {
            connection.send_down(in_step);
            sent = true;
        }
        sent
    }

    fn settle_leftovers(&mut self, placement: &Placement, edge: usize, api: &Api) -> bool {
        if !self.compared {
            return false;
        }
        let left = self.set.with(|desired| desired.unclaimed());
        let looked: Vec<_> = left
            .into_iter()
            .map(|(key, uid)| {
                let found = look(placement, api, edge, &key, &uid);
                (key, uid, found)
            })
            .collect();
        let judgement = leftover::judge(looked);
        self.compared = judgement.behind;
        let removed = !judgement.remove.is_empty();
        self.set.with(|desired| leftover::apply(judgement.remove, desired));
        removed
    }

    /// Starts one row: the request is on its way to the API server.
    pub fn start_row(&mut self) -> bool {
        let Some((place, row)) = self.exchange.rows.start() else { return false };
        self.running.push((place, row));
        true
    }

    /// The API server takes one of the rows under way; `told`: and the answer arrives. A row that it refuses stays under
    /// way.
    pub fn carry_out(&mut self, which: usize, api: &mut Api, told: bool) -> Result<bool> {
        if self.running.is_empty() || api.refuses {
            return Ok(false);
        }
        let at = which % self.running.len();
        let (_, row) = &self.running[at];
        write(api, &self.exchange.store, row)?;
        if told {
            let (place, row) = self.running.remove(at);
            self.exchange.finish(place, row.bytes);
        }
        Ok(true)
    }
}

/// What a watch or the API server tells of an object.
pub fn arrived(object: &Object) -> Arrived {
    Arrived::read(object.kind.clone(), &object.meta, object.json.clone())
}

fn look(placement: &Placement, api: &Api, edge: usize, key: &ObjectKey, uid: &str) -> Found {
    if placement.is_missing(key) {
        return Found::Unseen;
    }
    match api.find(&key.kind, &key.name) {
        _ if api.refuses => Found::Unknown,
        None => Found::Gone,
        Some(object) if object.meta.uid != uid => Found::Gone,
        Some(object) => {
            let here = node_of(object).as_deref() == Some(&edge_name(edge));
            let known = placement.mark_of(key) == Some(native::mark(&object.json));
            leftover::classify(&key.kind, here, known)
        }
    }
}

/// As the device controller does: read, compare the stamp and the value, write.
fn write(api: &mut Api, store: &str, row: &Submitted) -> Result<()> {
    let Upstream::TwinReport { name, report, .. } = Upstream::parse(&row.message)? else {
        anyhow::bail!("an edge of this simulation sends reports only")
    };
    let value = report.parse::<u64>()?;
    let stamp = Stamp { store: store.to_owned(), seq: row.seq };
    let reported = api.devices.entry(name).or_default();
    if stamp.is_covered_by(reported.stamp.as_ref()) || reported.values.last() == Some(&value) {
        return Ok(());
    }
    ensure!(!store.is_empty(), "a row came before the hello");
    reported.values.push(value);
    reported.stamp = Some(stamp);
    Ok(())
}

/// Bodies only an edge takes.
pub fn is_for_edge(body: &Body) -> bool {
    !matches!(body, Body::Hello(_) | Body::Inventory(_) | Body::Stored(_) | Body::Submit(_) | Body::Call(_))
}
