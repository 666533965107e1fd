//! The set of objects one node should have, against what it has acknowledged. Pure: time and ids come from outside.
//!
//! ```text
//!            put / remove                    next()                      acked(id)
//! (nothing) ------------> wanted (queued) ----------> in flight ------------------> settled
//!                             ^   newer put / remove     |  ^ resend(now) after 5 s     |
//!                             +--------------------------+--+---------------------------+
//! ```
//!
//! Keyed by uid, newest version wins, a removed uid never comes back. Memory is bounded by live objects: a settled
//! entry keeps its version only. Nodes and their configuration go before pods.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use message::{Downstream, Json, MessageId, ObjectKey, ObjectKind, Origin, ResourceVersion};
use tokio::time::Instant;

/// An object as a controller wants it on a node.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub key: ObjectKey,
    pub uid: String,
    pub version: ResourceVersion,
    pub object: Json,
}

/// What the node acknowledged about one uid.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    pub key: ObjectKey,
    pub uid: String,
    /// `None`: its removal.
    pub version: Option<ResourceVersion>,
    /// `apiVersion` and `kind` are read from here; empty for removals.
    pub object: Option<Json>,
}

impl PartialEq for Wanted {
    fn eq(&self, other: &Wanted) -> bool {
        self.key == other.key && self.uid == other.uid && self.version == other.version
    }
}

#[derive(Debug)]
enum Target {
    Present { version: ResourceVersion, object: Json },
    Absent { object: Json },
}

#[derive(Debug)]
struct Entry {
    key: ObjectKey,
    /// `None` once settled.
    target: Option<Target>,
    /// Newest version asked for or acknowledged.
    version: ResourceVersion,
    /// The node has had this object before.
    delivered: bool,
    flight: Option<MessageId>,
    queued: bool,
    removed: bool,
}

#[derive(Debug)]
struct Flight {
    uid: String,
    /// `None`: a removal.
    version: Option<ResourceVersion>,
    sent: Instant,
}

/// Messages that may wait for their acknowledgement at once. Go edges work through them one by one.
const WINDOW: usize = 32;

/// Time after which an unacknowledged message is sent again (KubeEdge's 5 s).
pub const RESEND_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub struct Desired {
    entries: HashMap<String, Entry>,
    /// (rank, order of arrival) -> uid
    queue: BTreeMap<(u8, u64), String>,
    flights: HashMap<MessageId, Flight>,
    arrivals: u64,
}

fn rank(kind: &ObjectKind) -> u8 {
    match kind {
        ObjectKind::Node => 0,
        ObjectKind::ConfigMap | ObjectKind::Secret | ObjectKind::DeviceModel => 1,
        ObjectKind::Device => 2,
        _ => 3,
    }
}

impl Desired {
    /// Tells that the node is known to have had `uid`, so its first delivery in this session is an update.
    pub fn had(&mut self, key: ObjectKey, uid: String) {
        let entry = Entry {
            key,
            target: None,
            version: ResourceVersion::default(),
            delivered: true,
            flight: None,
            queued: false,
            removed: false,
        };
        self.entries.entry(uid).or_insert(entry);
    }

    /// The object should be on the node in at least this version.
    pub fn put(&mut self, wanted: Wanted) {
        let Wanted { key, uid, version, object } = wanted;
        if let Some(entry) = self.entries.get_mut(&uid) {
            let withdrawn = matches!(entry.target, Some(Target::Absent { .. }));
            let newer = entry.version.0.is_empty() || version.is_newer_than(&entry.version);
            if entry.removed || !(newer || withdrawn) {
                return;
            }
            entry.version = version.clone();
            entry.target = Some(Target::Present { version, object });
        } else {
            let entry = Entry {
                key,
                target: Some(Target::Present { version: version.clone(), object }),
                version,
                delivered: false,
                flight: None,
                queued: false,
                removed: false,
            };
            self.entries.insert(uid.clone(), entry);
        }
        self.enqueue(&uid);
    }

    /// The object should not be on the node. `object` may be a stub. `may_return`: it still exists and may be wanted
    /// again; otherwise its uid is gone for good.
    pub fn remove(&mut self, key: &ObjectKey, uid: &str, object: Json, may_return: bool) {
        let entry = self.entries.entry(uid.to_owned()).or_insert_with(|| Entry {
            key: key.clone(),
            target: None,
            version: ResourceVersion::default(),
            delivered: true,
            flight: None,
            queued: false,
            removed: false,
        });
        if entry.removed {
            return;
        }
        entry.removed = !may_return;
        entry.target = Some(Target::Absent { object });
        self.enqueue(uid);
    }

    fn enqueue(&mut self, uid: &str) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        // A flight that is out keeps its place: the newer state follows its acknowledgement.
        if entry.queued || entry.flight.is_some() {
            return;
        }
        entry.queued = true;
        self.arrivals += 1;
        self.queue.insert((rank(&entry.key.kind), self.arrivals), uid.to_owned());
    }

    /// The next thing to send under `id`, if the window has room.
    pub fn next(&mut self, id: MessageId, now: Instant) -> Option<Downstream> {
        if self.flights.len() >= WINDOW {
            return None;
        }
        let (_, uid) = self.queue.pop_first()?;
        let entry = self.entries.get_mut(&uid)?;
        entry.queued = false;
        let (body, version) = body(entry, &uid)?;
        entry.flight = Some(id.clone());
        self.flights.insert(id, Flight { uid, version, sent: now });
        Some(body)
    }

    /// The node acknowledged message `id`. `None` for an unknown or late acknowledgement.
    pub fn acked(&mut self, id: &MessageId) -> Option<Settled> {
        let flight = self.flights.remove(id)?;
        let entry = self.entries.get_mut(&flight.uid)?;
        entry.flight = None;
        entry.delivered = true;
        let key = entry.key.clone();
        let settled = match (&entry.target, &flight.version) {
            (Some(Target::Present { version, .. }), Some(sent)) if version == sent => true,
            (Some(Target::Absent { .. }), None) => true,
            _ => false,
        };
        let object = match &entry.target {
            Some(Target::Present { object, .. }) => Some(object.clone()),
            _ => None,
        };
        let removed = flight.version.is_none();
        if settled && removed {
            self.entries.remove(&flight.uid);
        } else if settled {
            entry.target = None;
        } else {
            self.enqueue(&flight.uid);
        }
        Some(Settled { key, uid: flight.uid, version: flight.version, object: object.filter(|_| !removed) })
    }

    /// Messages whose acknowledgement is overdue: the same id with the same content, or, if a newer state is wanted
    /// by now, that one under the same id.
    pub fn overdue(&mut self, now: Instant) -> Vec<(MessageId, Downstream)> {
        let late: Vec<MessageId> = self
            .flights
            .iter()
            .filter(|(_, flight)| now.duration_since(flight.sent) >= RESEND_AFTER)
            .map(|(id, _)| id.clone())
            .collect();
        late.into_iter().filter_map(|id| self.resend(id, now)).collect()
    }

    fn resend(&mut self, id: MessageId, now: Instant) -> Option<(MessageId, Downstream)> {
        let flight = self.flights.get_mut(&id)?;
        let Some(entry) = self.entries.get(&flight.uid) else {
            self.flights.remove(&id);
            return None;
        };
        let (body, version) = body(entry, &flight.uid)?;
        flight.version = version;
        flight.sent = now;
        Some((id, body))
    }

    /// When [`Desired::overdue`] should be asked next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.flights.values().map(|flight| flight.sent + RESEND_AFTER).min()
    }

    /// Uids that the node is known to have had and that nobody has asked for in this session.
    pub fn unclaimed(&self) -> Vec<(ObjectKey, String)> {
        let unclaimed =
            |entry: &Entry| entry.target.is_none() && entry.version.0.is_empty() && !entry.removed;
        self.entries
            .iter()
            .filter(|(_, entry)| unclaimed(entry))
            .map(|(uid, entry)| (entry.key.clone(), uid.clone()))
            .collect()
    }
}

fn body(entry: &Entry, uid: &str) -> Option<(Downstream, Option<ResourceVersion>)> {
    let (key, origin) = (entry.key.clone(), Origin::of(&entry.key.kind));
    Some(match entry.target.as_ref()? {
        Target::Present { version, object } => (
            Downstream::Put {
                key,
                origin,
                version: version.clone(),
                object: object.clone(),
                first: !entry.delivered,
            },
            Some(version.clone()),
        ),
        Target::Absent { object } => {
            (Downstream::Remove { key, origin, uid: Some(uid.to_owned()), object: object.clone() }, None)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(path: &str, uid: &str, version: &str) -> Wanted {
        Wanted {
            key: ObjectKey::parse(path).unwrap(),
            uid: uid.into(),
            version: ResourceVersion(version.into()),
            object: Json::null(),
        }
    }

    fn id(n: u32) -> MessageId {
        MessageId(n.to_string())
    }

    fn text(body: Option<Downstream>) -> String {
        match body {
            None => "nothing".into(),
            Some(Downstream::Put { key, version, first, .. }) => {
                format!("{} {key}@{}", if first { "insert" } else { "update" }, version.0)
            }
            Some(Downstream::Remove { key, .. }) => format!("delete {key}"),
            Some(other) => format!("{other:?}"),
        }
    }

    #[test]
    fn only_the_newest_version_is_sent_and_configuration_goes_before_pods() {
        let mut desired = Desired::default();
        let now = Instant::now();
        desired.put(wanted("d/pod/p", "p", "3"));
        desired.put(wanted("d/configmap/c", "c", "1"));
        desired.put(wanted("d/configmap/c", "c", "2"));
        desired.put(wanted("d/configmap/c", "c", "1"));
        assert_eq!(text(desired.next(id(1), now)), "insert d/configmap/c@2");
        assert_eq!(text(desired.next(id(2), now)), "insert d/pod/p@3");
        assert_eq!(text(desired.next(id(3), now)), "nothing");
    }

    #[test]
    fn a_change_during_flight_follows_the_acknowledgement_and_a_late_ack_moves_nothing_back() {
        let mut desired = Desired::default();
        let now = Instant::now();
        desired.put(wanted("d/configmap/c", "c", "1"));
        desired.next(id(1), now);
        desired.put(wanted("d/configmap/c", "c", "2"));
        assert_eq!(text(desired.next(id(2), now)), "nothing");
        assert_eq!(desired.acked(&id(1)).unwrap().version.unwrap().0, "1");
        assert_eq!(text(desired.next(id(2), now)), "update d/configmap/c@2");
        assert!(desired.acked(&id(1)).is_none());
        assert_eq!(desired.acked(&id(2)).unwrap().version.unwrap().0, "2");
        assert_eq!(text(desired.next(id(3), now)), "nothing");
    }

    #[test]
    fn a_removed_uid_stays_removed_and_a_new_uid_of_the_same_name_is_another_object() {
        let mut desired = Desired::default();
        let now = Instant::now();
        desired.put(wanted("d/pod/p", "old", "1"));
        desired.next(id(1), now);
        desired.acked(&id(1));
        desired.remove(&ObjectKey::parse("d/pod/p").unwrap(), "old", Json::null(), false);
        desired.put(wanted("d/pod/p", "old", "9"));
        desired.put(wanted("d/pod/p", "new", "10"));
        assert_eq!(text(desired.next(id(2), now)), "delete d/pod/p");
        assert_eq!(text(desired.next(id(3), now)), "insert d/pod/p@10");
        assert_eq!(desired.acked(&id(2)).unwrap().version, None);
        assert!(!desired.entries.contains_key("old"));
    }

    #[test]
    fn a_withdrawn_object_comes_back_in_the_version_it_had() {
        let mut desired = Desired::default();
        let now = Instant::now();
        desired.put(wanted("d/secret/s", "s", "4"));
        desired.next(id(1), now);
        desired.acked(&id(1));
        desired.remove(&ObjectKey::parse("d/secret/s").unwrap(), "s", Json::null(), true);
        assert_eq!(text(desired.next(id(2), now)), "delete d/secret/s");
        desired.put(wanted("d/secret/s", "s", "4"));
        assert_eq!(desired.acked(&id(2)).unwrap().version, None);
        assert_eq!(text(desired.next(id(3), now)), "update d/secret/s@4");
    }

    #[test]
    fn an_overdue_message_is_sent_again_under_its_id_with_the_newest_content() {
        let mut desired = Desired::default();
        let now = Instant::now();
        desired.put(wanted("d/configmap/c", "c", "1"));
        desired.next(id(1), now);
        assert!(desired.overdue(now + Duration::from_secs(4)).is_empty());
        desired.put(wanted("d/configmap/c", "c", "2"));
        let again = desired.overdue(now + RESEND_AFTER);
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].0, id(1));
        assert_eq!(text(Some(again[0].1.clone())), "insert d/configmap/c@2");
        assert_eq!(desired.acked(&id(1)).unwrap().version.unwrap().0, "2");
        assert_eq!(desired.next_deadline(), None);
    }

    #[test]
    fn what_the_node_had_and_nobody_claims_is_unclaimed() {
        let mut desired = Desired::default();
        desired.had(ObjectKey::parse("d/pod/gone").unwrap(), "gone".into());
        desired.had(ObjectKey::parse("d/pod/here").unwrap(), "here".into());
        desired.put(wanted("d/pod/here", "here", "7"));
        assert_eq!(text(desired.next(id(1), Instant::now())), "update d/pod/here@7");
        let unclaimed = desired.unclaimed();
        assert_eq!(unclaimed.len(), 1);
        assert_eq!(unclaimed[0].1, "gone");
    }

    #[test]
    fn the_window_bounds_what_is_in_flight() {
        let mut desired = Desired::default();
        let now = Instant::now();
        for n in 0..(WINDOW as u32 + 1) {
            desired.put(wanted("d/configmap/c", &n.to_string(), "1"));
        }
        let sent = (0..100).filter(|n| desired.next(id(*n), now).is_some()).count();
        assert_eq!(sent, WINDOW);
        desired.acked(&id(0));
        assert!(desired.next(id(1000), now).is_some());
    }
}
