//! The last changes of a view, in memory: what a watch that begins at a revision is told first. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use apimachinery::traits::Traits;
use kubeapi::stored::{Event, EventKind, Replay, Stored};

use crate::tables::{Change, Difference};

/// Changes that are retained.
const EVENTS: usize = 256;
/// Bytes of their bodies.
const BYTES: usize = 512 * 1024;

pub(crate) struct Log {
    /// What happened after this revision is retained.
    floor: i64,
    /// Everything up to this revision is known.
    reached: i64,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
}

impl Log {
    /// Of a state at this revision.
    pub(crate) fn new(revision: i64) -> Log {
        Log { floor: revision, reached: revision, events: VecDeque::new(), bytes: 0 }
    }

    pub(crate) fn reached(&self) -> i64 {
        self.reached
    }

    /// Nothing happened up to this revision.
    pub(crate) fn bookmark(&mut self, revision: i64) {
        self.reached = self.reached.max(revision);
    }

    /// Adds a change that is newer than all before.
    pub(crate) fn push(&mut self, event: Arc<Event>) {
        self.reached = self.reached.max(event.stored.revision);
        self.bytes += event.stored.body.len();
        self.events.push_back(event);
        while self.events.len() > EVENTS || self.bytes > BYTES {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.stored.body.len();
            self.floor = oldest.stored.revision;
        }
    }

    /// What happened after `since`. A client may have listed in the cloud what has not come here yet: it is told what is
    /// newer.
    pub(crate) fn replay(&self, since: i64) -> Replay {
        if since < self.floor {
            return Replay::Expired(self.reached);
        }
        let events = self.events.iter().filter(|event| event.stored.revision > since);
        Replay::Events(events.map(|event| copy(event)).collect(), self.reached)
    }
}

fn copy(event: &Event) -> Event {
    let Event { kind, stored, traits, previous } = event;
    Event { kind: *kind, stored: stored.clone(), traits: traits.clone(), previous: previous.clone() }
}

/// The event that a change is; `before` is the body that the object had. `None`: nobody knew the object that is gone.
pub(crate) fn event(change: &Change, before: Option<&str>) -> Option<Event> {
    let traits = |resource: &str, body: &str| -> Traits {
        // What does not parse is chosen by no selector.
        Traits::of(resource, &serde_json::from_str(body).unwrap_or_default())
    };
    let of = |stored: &Stored| traits(&stored.key.resource, &stored.body);
    let stored = change.stored();
    let previous = before.map(|body| traits(&stored.key.resource, body));
    let kind = match (change, &previous) {
        (Change::Put(_), None) => EventKind::Added,
        (Change::Put(_), Some(_)) => EventKind::Modified,
        (Change::Remove(_), None) => return None,
        (Change::Remove(_), Some(_)) => EventKind::Deleted,
    };
    Some(Event { kind, traits: of(stored), stored: stored.clone(), previous })
}

/// The events by which a state at `reached` becomes one at `revision`, each with a place of its own between the two: what came late
/// may be older than what was told. `None`: there are more than fit, or the API server has gone back.
pub(crate) fn differences(mut of: Vec<Difference>, reached: i64, revision: i64) -> Option<Vec<Event>> {
    // What is gone has no revision here.
    let place = |change: &Change| match change {
        Change::Put(stored) => stored.revision,
        Change::Remove(_) => i64::MAX,
    };
    of.sort_by_key(|(change, _)| place(change));
    let count = i64::try_from(of.len()).ok()?;
    let mut at = reached;
    let mut events = Vec::with_capacity(of.len());
    for (left, (change, before)) in (0..count).rev().zip(of) {
        // Those that follow have to fit behind it.
        at = place(&change).min(revision - left).max(at + 1);
        if at > revision {
            return None;
        }
        let is_gone = matches!(change, Change::Remove(_));
        let mut event = event(&change, before.as_deref())?;
        event.stored.revision = at;
        if is_gone {
            event.stored.body = deleted_at(&event.stored.body, at).into();
        }
        events.push(event);
    }
    Some(events)
}

/// As API servers tell what is gone.
fn deleted_at(body: &str, revision: i64) -> String {
    let mut object: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    object["metadata"]["resourceVersion"] = revision.to_string().into();
    object.to_string()
}

#[cfg(test)]
mod tests {
    use kubeapi::stored::Key;

    use super::*;

    fn stored(name: &str, revision: i64, body: &str) -> Stored {
        Stored { key: Key::new("configmaps", "n", name), revision, body: body.into() }
    }

    fn push(log: &mut Log, revision: i64, size: usize) {
        let change = Change::Put(stored("a", revision, &format!("\"{}\"", "x".repeat(size))));
        log.push(Arc::new(event(&change, None).unwrap()));
    }

    #[test]
    fn a_watch_is_told_what_is_after_its_revision_and_410_before_what_is_retained() {
        let mut log = Log::new(10);
        assert!(matches!(log.replay(9), Replay::Expired(10)));
        assert!(matches!(log.replay(10), Replay::Events(events, 10) if events.is_empty()));
        push(&mut log, 12, 1);
        log.bookmark(15);
        assert!(matches!(log.replay(10), Replay::Events(events, 15) if events.len() == 1));
        assert!(matches!(log.replay(12), Replay::Events(events, 15) if events.is_empty()));
        assert!(
            matches!(log.replay(99), Replay::Events(events, 15) if events.is_empty()),
            "ahead of the view"
        );
    }

    #[test]
    fn the_log_is_bounded_in_number_and_bytes() {
        let mut log = Log::new(0);
        (1..=1000).for_each(|revision| push(&mut log, revision, 1));
        assert_eq!(log.events.len(), EVENTS);
        assert!(
            matches!(log.replay(1000 - EVENTS as i64), Replay::Events(events, 1000) if events.len() == EVENTS)
        );
        assert!(matches!(log.replay(1000 - EVENTS as i64 - 1), Replay::Expired(1000)));
        push(&mut log, 1001, BYTES / 2);
        push(&mut log, 1002, BYTES / 2);
        assert!(log.bytes <= BYTES && log.events.len() < 3, "{}", log.events.len());
        assert!(matches!(log.replay(1000), Replay::Expired(1002)));
    }

    #[test]
    fn a_change_is_an_addition_a_modification_or_a_deletion_by_what_was_there() {
        let body = r#"{"metadata":{"name":"a","labels":{"x":"1"}}}"#;
        let put = Change::Put(stored("a", 2, body));
        assert_eq!(event(&put, None).unwrap().kind, EventKind::Added);
        let changed = event(&put, Some(body)).unwrap();
        assert_eq!(
            (changed.kind, changed.previous.unwrap().labels["x"].as_str()),
            (EventKind::Modified, "1")
        );
        let gone = Change::Remove(stored("a", 3, body));
        assert_eq!(event(&gone, Some(body)).unwrap().kind, EventKind::Deleted);
        assert!(event(&gone, None).is_none());
    }

    #[test]
    fn differences_are_told_one_after_the_other_behind_what_was_told() {
        let body = r#"{"metadata":{"name":"a","resourceVersion":"3"}}"#;
        let put = |name, revision| (Change::Put(stored(name, revision, body)), None);
        let gone = || (Change::Remove(stored("g", 3, body)), Some(body.to_owned()));
        let places = |of, reached, revision| {
            let events = differences(of, reached, revision)?;
            Some(events.iter().map(|event| event.stored.revision).collect::<Vec<_>>())
        };
        // One that is older than what was told, one that is newer, one that is gone.
        assert_eq!(places(vec![gone(), put("b", 14), put("a", 8)], 10, 20).unwrap(), [11, 14, 20]);
        assert_eq!(places(vec![put("b", 20), gone()], 10, 20).unwrap(), [19, 20]);
        assert_eq!(places(vec![put("a", 8), put("b", 9)], 10, 11), None, "no room");
        assert_eq!(places(vec![put("a", 4)], 10, 5), None, "a cluster that was restored");
        assert_eq!(places(Vec::new(), 10, 10).unwrap(), [0; 0]);
        let told = differences(vec![gone()], 10, 20).unwrap();
        assert_eq!(told[0].kind, EventKind::Deleted);
        assert!(told[0].stored.body.contains(r#""resourceVersion":"20""#), "{}", told[0].stored.body);
    }
}
