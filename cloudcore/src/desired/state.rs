//! The set of objects one node should have, against what it has acknowledged. Pure: time comes from outside.
//!
//! ```text
//!            put / remove                    next()                    acked(ticket)
//! (nothing) ------------> wanted (queued) ----------> in flight ------------------> settled
//!                             ^   newer put / remove     |  ^ overdue(now) after 5 s     |
//!                             +--------------------------+--+----------------------------+
//! ```
//!
//! Keyed by uid, newest version wins, a removed uid never comes back, and an object whose mark did not change is not
//! sent. Memory is bounded by live objects. Nodes and their configuration go before pods.

use std::collections::{BTreeMap, HashMap};

use api::reliablesyncs::NEVER;
use message::{Downstream, Json, ObjectKey, ObjectKind, Origin, ResourceVersion};
use native::Digest;
use native::frames::{Held, KindDigest};
use tokio::time::Instant;

use super::Text;
use super::sending::{Outgoing, RESEND_AFTER, Settled, Ticket, Wanted, Window};

#[derive(Debug)]
enum Target {
    Present { object: Text },
    Absent { object: Json },
}

#[derive(Debug)]
struct Entry {
    key: ObjectKey,
    /// `None` once settled.
    target: Option<Target>,
    /// Newest version asked for, acknowledged or recorded.
    version: ResourceVersion,
    /// Of that version; 0 if not known.
    mark: u64,
    /// Text the node acknowledged, if differences are kept.
    base: Option<Text>,
    /// The node has had this object before.
    delivered: bool,
    /// A controller asked for it in this session.
    claimed: bool,
    /// It was to be sent, and its text was not here.
    away: bool,
    /// Of its removal: it is on record that the node may not have it.
    announced: bool,
    flight: Option<Ticket>,
    /// Its place in the queue.
    queued: Option<u64>,
    removed: bool,
}

#[derive(Debug)]
struct Flight {
    uid: String,
    /// `None`: a removal.
    version: Option<ResourceVersion>,
    bytes: usize,
    sent: Instant,
}

#[derive(Debug, Default)]
pub struct Desired {
    /// By uid. Boxed: most places of a small table are empty.
    entries: HashMap<String, Box<Entry>>,
    /// (rank, order of arrival) -> uid
    queue: BTreeMap<(u8, u64), String>,
    flights: BTreeMap<Ticket, Flight>,
    /// Of all flights.
    bytes: usize,
    arrivals: u64,
    tickets: Ticket,
    /// What was to be sent and was not here, since it was asked for last.
    away: Vec<ObjectKey>,
    /// Removals of what may be wanted again wait until they are on record.
    announces: bool,
    announcing: Vec<(ObjectKey, String)>,
    /// Keep the text of what is acknowledged.
    keep_base: bool,
    /// Who the objects come from, where it is not the controller that owns their kind.
    origin: Option<Origin>,
    /// Names of what the node is known to have and nobody has asked for, and its uid.
    leftovers: HashMap<ObjectKey, String>,
    /// Uid of such a leftover -> what is wanted under its name, and is not sent before it is known what the leftover is: this
    /// replica may lag behind, and the leftover may be the successor of what it wants.
    held_back: HashMap<String, String>,
}

fn entry(key: ObjectKey, delivered: bool) -> Box<Entry> {
    Box::new(Entry {
        key,
        target: None,
        version: ResourceVersion::default(),
        mark: 0,
        base: None,
        delivered,
        claimed: false,
        away: false,
        announced: false,
        flight: None,
        queued: None,
        removed: false,
    })
}

impl Entry {
    /// A record may say that the node has it.
    fn is_to_be_announced(&self) -> bool {
        let may_return = matches!(self.target, Some(Target::Absent { .. })) && !self.removed;
        may_return && !self.announced && !matches!(self.version.0.as_str(), "" | NEVER)
    }
}

impl Desired {
    /// What watches of a node show: it comes from DynamicController, whatever its kind.
    pub fn of_watches() -> Desired {
        Desired { origin: Some(Origin::DynamicController), ..Desired::default() }
    }

    /// Keeps the text of what the node acknowledges, so that differences can be sent.
    pub fn keep_texts(&mut self) {
        self.keep_base = true;
    }

    /// Starts over: nothing is known of the node, and what is in flight will not be acknowledged.
    pub fn forget(&mut self) {
        self.entries.clear();
        self.away.clear();
        self.announcing.clear();
        self.queue.clear();
        self.flights.clear();
        self.bytes = 0;
        self.leftovers.clear();
        self.held_back.clear();
    }

    /// Tells that the node is recorded to have acknowledged `version` of `uid`. Nothing older or equal is sent.
    pub fn recorded(&mut self, key: ObjectKey, uid: String, version: ResourceVersion) {
        if !self.entries.contains_key(&uid) {
            let mut record = entry(key.clone(), true);
            record.version = version;
            self.leftovers.insert(key, uid.clone());
            self.entries.insert(uid, record);
        }
    }

    /// Somebody asked for it, or for its removal: what waits for that is sent now.
    fn claim(&mut self, key: &ObjectKey, uid: &str) {
        if self.leftovers.get(key).is_some_and(|leftover| leftover == uid) {
            self.leftovers.remove(key);
        }
        if let Some(waiting) = self.held_back.remove(uid) {
            self.enqueue(&waiting);
        }
    }

    /// The object should be on the node in at least this version.
    pub fn put(&mut self, wanted: Wanted) {
        let Wanted { key, uid, version, mark, object } = wanted;
        self.claim(&key, &uid);
        let known = self.entries.contains_key(&uid);
        let entry = self.entries.entry(uid.clone()).or_insert_with(|| entry(key, false));
        entry.claimed = true;
        let withdrawn = matches!(entry.target, Some(Target::Absent { .. }));
        let newer = entry.version.0.is_empty() || version.is_newer_than(&entry.version);
        let same = entry.mark == mark && mark != 0;
        let is_back = entry.away && (same || entry.version == version);
        if entry.removed || (known && !withdrawn && (!newer || same) && !is_back) {
            return;
        }
        if newer || withdrawn {
            entry.version = version;
        }
        entry.away = false;
        entry.announced = false;
        entry.mark = mark;
        entry.target = Some(Target::Present { object });
        self.enqueue(&uid);
    }

    /// The object should not be on the node. `object` may be a stub. `may_return`: it still exists and may be wanted
    /// again; otherwise its uid is gone for good.
    pub fn remove(&mut self, key: &ObjectKey, uid: &str, object: Json, may_return: bool) {
        // What takes its place goes first: the node is never without either.
        self.claim(key, uid);
        let entry = self.entries.entry(uid.to_owned()).or_insert_with(|| entry(key.clone(), true));
        if entry.removed {
            return;
        }
        entry.claimed = true;
        entry.away = false;
        entry.removed = !may_return;
        entry.target = Some(Target::Absent { object });
        self.enqueue(uid);
    }

    fn enqueue(&mut self, uid: &str) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        // A flight that is out keeps its place: the newer state follows its acknowledgement.
        if entry.queued.is_some() || entry.flight.is_some() {
            return;
        }
        self.arrivals += 1;
        entry.queued = Some(self.arrivals);
        self.queue.insert((entry.key.kind.rank(), self.arrivals), uid.to_owned());
    }

    /// The next thing to send, if the window has room.
    pub fn next(&mut self, window: Window, now: Instant) -> Option<Outgoing> {
        while self.flights.len() < window.messages && self.bytes < window.bytes {
            let ((_, place), uid) = pop_first(&mut self.queue)?;
            let Some(entry) = self.entries.get_mut(&uid).filter(|entry| entry.queued == Some(place)) else {
                continue;
            };
            entry.queued = None;
            let leftover = self.leftovers.get(&entry.key).filter(|leftover| **leftover != uid);
            if let (Some(leftover), Some(Target::Present { .. })) = (leftover, &entry.target) {
                self.held_back.insert(leftover.clone(), uid);
                continue;
            }
            if self.announces && entry.is_to_be_announced() {
                self.announcing.push((entry.key.clone(), uid));
                continue;
            }
            let Some((body, version)) = body(entry, &uid, self.origin) else {
                entry.away = entry.target.is_some();
                self.away.extend(entry.away.then(|| entry.key.clone()));
                continue;
            };
            self.tickets += 1;
            let ticket = self.tickets;
            entry.flight = Some(ticket);
            let bytes = size(&body);
            let outgoing =
                Outgoing { ticket, body, mark: entry.mark, base: entry.base.as_ref().and_then(Text::here) };
            self.bytes += bytes;
            self.flights.insert(ticket, Flight { uid, version, bytes, sent: now });
            return Some(outgoing);
        }
        None
    }

    /// The node acknowledged a sending. `None` for an unknown or late acknowledgement.
    pub fn acked(&mut self, ticket: Ticket) -> Option<Settled> {
        let flight = self.land(ticket)?;
        let keep_base = self.keep_base;
        let entry = self.entries.get_mut(&flight.uid)?;
        entry.delivered = true;
        let key = entry.key.clone();
        let removed = flight.version.is_none();
        let settled = match (&entry.target, &flight.version) {
            (Some(Target::Present { .. }), Some(sent)) => entry.version == *sent,
            (Some(Target::Absent { .. }), None) => true,
            _ => false,
        };
        if settled && removed {
            self.entries.remove(&flight.uid);
        } else if settled {
            settle(entry, keep_base);
        } else {
            entry.base = None;
            self.enqueue(&flight.uid);
        }
        Some(Settled { key, uid: flight.uid, version: flight.version })
    }

    /// The node acknowledged every sending up to `ticket`.
    pub fn acked_through(&mut self, ticket: Ticket) {
        while let Some((&first, _)) = self.flights.first_key_value() {
            if first > ticket {
                return;
            }
            self.acked(first);
        }
    }

    /// The node could not take a sending: it goes back into the queue, whole.
    pub fn failed(&mut self, ticket: Ticket) {
        let Some(flight) = self.land(ticket) else { return };
        if let Some(entry) = self.entries.get_mut(&flight.uid) {
            entry.base = None;
        }
        self.enqueue(&flight.uid);
    }

    fn land(&mut self, ticket: Ticket) -> Option<Flight> {
        let flight = self.flights.remove(&ticket)?;
        give_back(&mut self.flights);
        self.bytes -= flight.bytes;
        if let Some(entry) = self.entries.get_mut(&flight.uid) {
            entry.flight = None;
        }
        Some(flight)
    }

    /// Sendings whose acknowledgement is overdue: the same ticket with the same content. One of which a newer state is wanted by
    /// now is given up and sent anew: a late acknowledgement must not count for what the node has not got.
    pub fn overdue(&mut self, now: Instant) -> Vec<(Ticket, Downstream)> {
        let late = |flight: &Flight| now.duration_since(flight.sent) >= RESEND_AFTER;
        let late: Vec<Ticket> =
            self.flights.iter().filter(|(_, flight)| late(flight)).map(|(ticket, _)| *ticket).collect();
        late.into_iter().filter_map(|ticket| self.resend(ticket, now)).collect()
    }

    fn resend(&mut self, ticket: Ticket, now: Instant) -> Option<(Ticket, Downstream)> {
        let flight = self.flights.get_mut(&ticket)?;
        let entry = self.entries.get(&flight.uid);
        if let Some(entry) = entry.filter(|entry| flight.version.as_ref() == Some(&entry.version))
            && let Some(Target::Present { object }) = &entry.target
            && !object.is_here()
        {
            // It is sent again when it is overdue next.
            flight.sent = now;
            self.away.push(entry.key.clone());
            return None;
        }
        let found = entry.and_then(|entry| body(entry, &flight.uid, self.origin));
        match found {
            Some((body, version)) if version == flight.version => {
                flight.sent = now;
                Some((ticket, body))
            }
            _ => {
                let flight = self.land(ticket)?;
                self.enqueue(&flight.uid);
                None
            }
        }
    }

    /// What is to be sent and is not here; each once. It is sent when it is [put](Desired::put) again.
    pub fn take_away(&mut self) -> Vec<ObjectKey> {
        std::mem::take(&mut self.away)
    }

    /// The node's acknowledgements are remembered over sessions: what is taken from it and may be wanted again is
    /// [announced](Desired::take_announcing) before, so that no record says that the node has what it may have lost.
    pub fn announce_removals(&mut self) {
        self.announces = true;
    }

    /// What is to be taken from the node once it is [on record](Desired::announced) that it may not have it; each once.
    pub fn take_announcing(&mut self) -> Vec<(ObjectKey, String)> {
        std::mem::take(&mut self.announcing)
    }

    /// It is on record that the node may not have `uid`.
    pub fn announced(&mut self, uid: &str) {
        if let Some(entry) = self.entries.get_mut(uid).filter(|entry| entry.is_to_be_announced()) {
            entry.announced = true;
            self.enqueue(uid);
        }
    }

    /// True if the sending waits for its acknowledgement.
    pub fn is_under_way(&self, ticket: Ticket) -> bool {
        self.flights.contains_key(&ticket)
    }

    /// When [`Desired::overdue`] should be asked next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.flights.values().map(|flight| flight.sent + RESEND_AFTER).min()
    }

    /// True if nothing waits to be sent or acknowledged.
    pub fn is_settled(&self) -> bool {
        self.flights.is_empty() && self.entries.values().all(|entry| entry.target.is_none())
    }

    /// Uids that the node is known to have and that nobody has asked for in this session.
    pub fn unclaimed(&self) -> Vec<(ObjectKey, String)> {
        let unclaimed = self.entries.iter().filter(|(_, entry)| !entry.claimed);
        unclaimed.map(|(uid, entry)| (entry.key.clone(), uid.clone())).collect()
    }

    /// True if a controller asked for `uid` in this session.
    pub fn is_claimed(&self, uid: &str) -> bool {
        self.entries.get(uid).is_some_and(|entry| entry.claimed)
    }

    /// Kinds of which the node holds something else than what it should, by digest. The others count as settled.
    pub fn compare(&mut self, theirs: &[KindDigest]) -> Vec<String> {
        let mut ours: BTreeMap<String, Digest> = BTreeMap::new();
        for (uid, entry) in &self.entries {
            if let Some(Target::Present { .. }) = entry.target {
                ours.entry(entry.key.kind.to_string()).or_default().add(uid, entry.mark);
            }
        }
        let mut differing = Vec::new();
        for digest in theirs {
            match ours.remove(&digest.kind) {
                Some(own) if own.matches(digest) => self.settle_kind(&digest.kind),
                _ => differing.push(digest.kind.clone()),
            }
        }
        differing
    }

    fn settle_kind(&mut self, kind: &str) {
        let (keep_base, kind) = (self.keep_base, ObjectKind::parse(kind));
        // What should not be there is not, and may be wanted again.
        self.entries.retain(|_, entry| {
            let is_gone = matches!(entry.target, Some(Target::Absent { .. })) && !entry.removed;
            entry.key.kind != kind || !is_gone
        });
        for entry in self.entries.values_mut().filter(|entry| entry.key.kind == kind) {
            settle(entry, keep_base);
        }
    }

    /// The node holds this. What it holds in the wanted state is settled; what nobody wants stays unclaimed.
    pub fn held(&mut self, held: &Held, key: ObjectKey) {
        let keep_base = self.keep_base;
        match self.entries.get_mut(&held.uid) {
            Some(entry)
                if entry.mark == held.mark && matches!(entry.target, Some(Target::Present { .. })) =>
            {
                settle(entry, keep_base);
            }
            Some(entry) => entry.delivered = true,
            None => {
                self.leftovers.insert(key.clone(), held.uid.clone());
                self.entries.insert(held.uid.clone(), entry(key, true));
            }
        }
    }
}

fn pop_first<K: Ord, V>(map: &mut BTreeMap<K, V>) -> Option<(K, V)> {
    let first = map.pop_first();
    give_back(map);
    first
}

/// An empty tree keeps a node, which ten thousand quiet sessions need not.
fn give_back<K, V>(map: &mut BTreeMap<K, V>) {
    if map.is_empty() {
        *map = BTreeMap::new();
    }
}

/// The node has the entry as it should be.
fn settle(entry: &mut Entry, keep_base: bool) {
    if let Some(Target::Present { object }) = entry.target.take() {
        entry.base = Some(object).filter(|_| keep_base);
        entry.delivered = true;
        entry.away = false;
        entry.queued = None;
    }
}

fn size(body: &Downstream) -> usize {
    match body {
        Downstream::Put { object, .. } => object.text().len(),
        _ => 0,
    }
}

fn body(entry: &Entry, uid: &str, origin: Option<Origin>) -> Option<(Downstream, Option<ResourceVersion>)> {
    let (key, origin) = (entry.key.clone(), origin.unwrap_or_else(|| Origin::of(&entry.key.kind)));
    Some(match entry.target.as_ref()? {
        Target::Present { object } => {
            let (version, first, object) = (entry.version.clone(), !entry.delivered, object.here()?);
            let put = Downstream::Put { key, origin, version: version.clone(), object, first };
            (put, Some(version))
        }
        Target::Absent { object } => {
            (Downstream::Remove { key, origin, uid: Some(uid.to_owned()), object: object.clone() }, None)
        }
    })
}

#[cfg(test)]
mod tests;
