//! One CloudCore replica: the real placement graph, desired sets and exchanges, fed by a watch that may lag.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use cloudcore::cloudhub::kubeedge;
use cloudcore::cloudhub::session::leftover::{self, Leftover};
use cloudcore::desired::{Arrived, Change, NodeSet, Placement, Settled};
use message::{ObjectKey, ResourceVersion};
use tokio::time::Instant;

use crate::api::{Api, Event, Object, edge_name, node_of};
use crate::half::{CloudHalf, Dialect, kubeedge as kubeedge_half, native as native_half};
use crate::network::Connection;

pub(crate) struct Session {
    pub connection: u64,
    set: NodeSet,
    half: Box<dyn CloudHalf>,
    compared: bool,
}

#[derive(Default)]
pub(crate) struct Replica {
    placement: Placement,
    /// Texts the API server has answered and that are not taken in.
    answers: Vec<Arrived>,
    /// Events of the log seen so far.
    seen: usize,
    pub sessions: BTreeMap<usize, Session>,
    /// Acknowledgements that are not in the API server yet; lost when the replica dies.
    unwritten: Vec<(usize, Settled)>,
    /// What edges may not have: not in the API server yet, so that they are not told to drop it; lost when the replica dies.
    announcing: Vec<(usize, ObjectKey, String)>,
    /// What edges may not have, whatever is recorded.
    doubted: BTreeSet<(usize, String)>,
    /// Edges that have not got everything since they started.
    started: BTreeSet<usize>,
    epochs: u64,
}

impl Replica {
    /// Starts: lists everything, then watches. Holds texts of at most so many bytes in memory.
    pub(crate) fn start(api: &Api, texts: usize) -> Replica {
        let placement = Placement::with_texts(texts);
        let mut replica = Replica { seen: api.log.len(), placement, ..Replica::default() };
        for object in api.objects.values() {
            replica.placement.put(arrived(object));
        }
        replica
    }

    /// Sees the next event, if there is one.
    pub(crate) fn watch(&mut self, api: &Api) -> bool {
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
    pub(crate) fn fetch(&mut self, api: &Api) -> bool {
        if let Some(answer) = self.answers.pop() {
            let changes = self.placement.fetched(answer);
            self.tell(changes);
            return true;
        }
        if !api.refuses {
            let object = |key: &ObjectKey| api.find(&key.kind, &key.name).map(arrived);
            self.answers = self.placement.missing().filter_map(object).collect();
        }
        !self.answers.is_empty()
    }

    /// Writes what nodes have acknowledged.
    pub(crate) fn record(&mut self, api: &mut Api) -> bool {
        if api.refuses || self.unwritten.is_empty() && self.announcing.is_empty() {
            return false;
        }
        for (edge, settled) in self.unwritten.drain(..) {
            if settled.version.is_none() {
                self.doubted.remove(&(edge, settled.uid.clone()));
            }
            api.record(edge, settled);
        }
        for (edge, key, uid) in self.announcing.drain(..) {
            api.doubt(edge, key, &uid);
            if let Some(session) = self.sessions.get(&edge) {
                session.set.with(|desired| desired.announced(&uid));
            }
        }
        true
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
    pub(crate) fn settle_leftovers(&mut self, edge: usize, api: &Api) -> bool {
        let session = self.sessions.get_mut(&edge);
        session.is_some_and(|session| session.settle_leftovers(&self.placement, edge, api))
    }

    /// A connection of `edge` begins; one it had before is over.
    pub(crate) fn accept(&mut self, edge: usize, connection: u64, dialect: Dialect, api: &Api) {
        self.epochs += 1;
        let set = NodeSet::default();
        let half: Box<dyn CloudHalf> = match dialect {
            Dialect::Native => {
                set.with(|desired| desired.keep_texts());
                Box::new(native_half::Cloud::new(self.epochs))
            }
            Dialect::KubeEdge => {
                let records = self.recorded(edge, api);
                set.with(|desired| kubeedge::recorded(records, desired));
                Box::new(kubeedge_half::Cloud::new(self.started.contains(&edge)))
            }
        };
        self.fill(edge, &set);
        let compared = dialect == Dialect::KubeEdge;
        self.sessions.insert(edge, Session { connection, set, half, compared });
    }

    /// True if an edge has not got everything since it started.
    pub(crate) fn owes_everything(&self) -> bool {
        !self.started.is_empty()
    }

    fn recorded(&self, edge: usize, api: &Api) -> Vec<(ObjectKey, String, ResourceVersion)> {
        let mut records = api.recorded(edge);
        let has_started = self.started.contains(&edge);
        let is_doubted = |uid: &String| self.doubted.contains(&(edge, uid.clone()));
        let doubtful = records.iter_mut().filter(|(_, uid, _)| has_started || is_doubted(uid));
        doubtful.for_each(|(_, _, version)| *version = ResourceVersion::default());
        records
    }

    fn fill(&self, edge: usize, set: &NodeSet) {
        let snapshot = self.placement.set_of(&edge_name(edge));
        set.with(|desired| snapshot.into_iter().for_each(|wanted| desired.put(wanted)));
    }

    /// The session of `edge` sends what there is to send, and asks for what is not in memory.
    pub(crate) fn send(&mut self, edge: usize, connection: &mut Connection, now: Instant) -> bool {
        let Some(session) = self.sessions.get_mut(&edge) else { return false };
        let frames = session.half.send(&session.set, !session.compared, now);
        let (away, announcing) = session.set.with(|desired| (desired.take_away(), desired.take_announcing()));
        let busy = !frames.is_empty() || !away.is_empty() || !announcing.is_empty();
        for (key, uid) in announcing {
            self.doubted.insert((edge, uid.clone()));
            self.announcing.push((edge, key, uid));
        }
        connection.send_down(frames);
        for key in away {
            let changes = self.placement.want(&edge_name(edge), &key);
            self.tell(changes);
        }
        busy
    }

    /// The session of `edge` takes the next frame of its connection.
    pub(crate) fn receive(&mut self, edge: usize, connection: &mut Connection, api: &Api) -> Result<bool> {
        let Some(session) = self.sessions.get_mut(&edge) else { return Ok(false) };
        let Some(frame) = connection.up.pop_front() else { return Ok(false) };
        let wants = session.half.receive(&frame, &session.set)?;
        connection.send_down(wants.frames);
        session.compared |= wants.compared || wants.start_over;
        for settled in wants.settled {
            if settled.version.is_some() {
                self.doubted.remove(&(edge, settled.uid.clone()));
            }
            self.unwritten.push((edge, settled));
        }
        let set = session.set.clone();
        if wants.has_everything {
            self.started.remove(&edge);
        }
        if wants.start_over {
            self.started.insert(edge);
            let records = self.recorded(edge, api);
            set.with(|desired| kubeedge::recorded(records, desired));
            self.fill(edge, &set);
        }
        Ok(true)
    }
}

impl Session {
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
        let decision = leftover::judge(looked);
        self.compared = decision.behind;
        let removed = !decision.remove.is_empty();
        self.set.with(|desired| leftover::apply(decision.remove, desired));
        removed
    }

    pub(crate) fn start_row(&mut self) -> bool {
        self.half.start_row()
    }

    pub(crate) fn carry_out(&mut self, which: usize, api: &mut Api, told: bool) -> Result<bool> {
        self.half.carry_out(which, api, told)
    }

    pub(crate) fn waits(&self) -> bool {
        self.half.waits(&self.set)
    }
}

/// What a watch or the API server tells of an object.
pub(crate) fn arrived(object: &Object) -> Arrived {
    Arrived::read(object.kind.clone(), &object.meta, object.json.clone())
}

fn look(placement: &Placement, api: &Api, edge: usize, key: &ObjectKey, uid: &str) -> Leftover {
    if placement.is_missing(key) {
        return Leftover::Unseen;
    }
    match api.find(&key.kind, &key.name) {
        _ if api.refuses => Leftover::Unknown,
        None => Leftover::Gone,
        Some(object) if object.meta.uid != uid => Leftover::Gone,
        Some(object) => {
            let here = node_of(object).as_deref() == Some(&edge_name(edge));
            let known = placement.mark_of(key) == Some(native::mark(&object.json));
            leftover::classify(&key.kind, here, known)
        }
    }
}
