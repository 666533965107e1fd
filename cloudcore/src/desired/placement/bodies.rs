//! Config maps, secrets and nodes: whole while a node has a use for them, else only what tells one state from another. Pure.
//!
//! ```text
//!               put, used                        put, not used
//! (unknown) ------------------> whole         (unknown) ------> idle
//!    ^ gone                      |  ^ fetched                    |  begin_use
//!    |                   end_use v  |                            v
//!    +--------------------------idle  missing <------------------+
//! ```
//!
//! What is whole has its text for as long as it is among the last that came ([`RecentTexts`]); a text that went is missing when
//! a node is to be sent it. What is missing and idle stays idle until its text is here. An answer may be ahead of the watch, which then tells of older states. A put or a removal that comes while the text is fetched is newer than the
//! question, so the answer is dropped.

use std::collections::{BTreeSet, HashMap, HashSet};

use message::{ObjectKey, ObjectKind, ResourceVersion};

use super::{Wanted, is_same};
use crate::desired::text::RecentTexts;

/// What is kept of an object that no node has a use for.
#[derive(Debug)]
struct Idle {
    uid: Box<str>,
    version: Box<str>,
    mark: u64,
}

#[derive(Debug)]
pub(super) struct Bodies {
    whole: HashMap<ObjectKey, Wanted>,
    idle: HashMap<ObjectKey, Idle>,
    /// Of those that are idle: a node has a use for them by now. Of those that are whole: a node is to be sent them, and
    /// their text went.
    missing: BTreeSet<ObjectKey>,
    /// Those that were fetched, and the watch has not told of a state as new as that.
    ahead: HashSet<ObjectKey>,
    /// Texts of those that are whole, but for nodes, which nobody fetches.
    recent: RecentTexts,
}

impl Bodies {
    /// `limit`: bytes of texts in memory.
    pub(super) fn new(limit: usize) -> Bodies {
        Bodies {
            whole: HashMap::new(),
            idle: HashMap::new(),
            missing: BTreeSet::new(),
            ahead: HashSet::new(),
            recent: RecentTexts::new(limit),
        }
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Wanted> {
        self.whole.get(key)
    }

    pub(super) fn mark_of(&self, key: &ObjectKey) -> Option<u64> {
        let whole = self.whole.get(key).map(|wanted| wanted.mark);
        whole.or_else(|| self.idle.get(key).map(|idle| idle.mark))
    }

    pub(super) fn uid_of(&self, key: &ObjectKey) -> Option<String> {
        let whole = self.whole.get(key).map(|wanted| wanted.uid.clone());
        whole.or_else(|| self.idle.get(key).map(|idle| idle.uid.to_string()))
    }

    fn version_of(&self, key: &ObjectKey) -> Option<ResourceVersion> {
        let whole = self.whole.get(key).map(|wanted| wanted.version.clone());
        whole.or_else(|| self.idle.get(key).map(|idle| ResourceVersion(idle.version.to_string())))
    }

    pub(super) fn missing(&self) -> impl Iterator<Item = &ObjectKey> {
        self.missing.iter()
    }

    fn keep_whole(&mut self, wanted: &Wanted) {
        if wanted.key.kind != ObjectKind::Node {
            self.recent.note(&wanted.object);
        }
        self.whole.insert(wanted.key.clone(), wanted.clone());
    }

    /// A node is to be sent the object: its state, if the text is here, else it is missing.
    pub(super) fn want(&mut self, key: &ObjectKey) -> Option<&Wanted> {
        let wanted = self.whole.get(key)?;
        if !wanted.object.is_here() {
            self.missing.insert(key.clone());
            return None;
        }
        Some(wanted)
    }

    pub(super) fn is_missing(&self, key: &ObjectKey) -> bool {
        self.missing.contains(key)
    }

    pub(super) fn is_any_missing(&self) -> bool {
        !self.missing.is_empty()
    }

    /// The object is now this. False if nodes that have it need not hear of it.
    pub(super) fn put(&mut self, wanted: &Wanted, is_used: bool) -> bool {
        if self.is_older(wanted) {
            return false;
        }
        self.ahead.remove(&wanted.key);
        if self.whole.get(&wanted.key).is_some_and(|known| is_same(known, wanted)) {
            return false;
        }
        self.missing.remove(&wanted.key);
        if is_used {
            self.idle.remove(&wanted.key);
            self.keep_whole(wanted);
        } else {
            self.idle.insert(wanted.key.clone(), Idle::of(wanted));
        }
        is_used
    }

    /// The object of that uid is gone. False if another one has its name, or none.
    pub(super) fn gone(&mut self, key: &ObjectKey, uid: &str) -> bool {
        let current = self.uid_of(key).is_some_and(|known| known == uid);
        if current {
            self.whole.remove(key);
            self.idle.remove(key);
            self.missing.remove(key);
            self.ahead.remove(key);
        }
        current
    }

    /// True of a state older than one that was fetched.
    fn is_older(&self, wanted: &Wanted) -> bool {
        let known = self.version_of(&wanted.key).filter(|_| self.ahead.contains(&wanted.key));
        known.is_some_and(|known| known.is_newer_than(&wanted.version))
    }

    /// A node has a use for the object from now on: its text, or `None` if there is none or it must be fetched.
    pub(super) fn begin_use(&mut self, key: &ObjectKey) -> Option<&Wanted> {
        if self.idle.contains_key(key) {
            self.missing.insert(key.clone());
        }
        self.whole.get(key)
    }

    /// No node has a use for the object any more.
    pub(super) fn end_use(&mut self, key: &ObjectKey) {
        self.missing.remove(key);
        if let Some(wanted) = self.whole.remove(key) {
            self.idle.insert(key.clone(), Idle::of(&wanted));
        }
    }

    /// The text that was asked for. Returns what nodes must hear, and the uid of an object of that name that they may have and
    /// that must be gone by now. `None` if the text is not missing any more, or older than what a watch has told: then it stays
    /// missing.
    pub(super) fn fetched(&mut self, wanted: Wanted) -> Option<(Wanted, Option<String>)> {
        if !self.missing.contains(&wanted.key) {
            return None;
        }
        let version = self.version_of(&wanted.key)?;
        if version.is_newer_than(&wanted.version) {
            return None;
        }
        self.missing.remove(&wanted.key);
        self.idle.remove(&wanted.key);
        match self.whole.get(&wanted.key) {
            // Every set that has this state has its text again.
            Some(known) if is_same(known, &wanted) => {
                known.object.fill(&wanted.object);
                self.recent.note(&known.object);
                Some((known.clone(), None))
            }
            known => {
                let replaced = known.map(|known| known.uid.clone()).filter(|uid| *uid != wanted.uid);
                if version != wanted.version {
                    self.ahead.insert(wanted.key.clone());
                }
                self.keep_whole(&wanted);
                Some((wanted, replaced))
            }
        }
    }
}

impl Idle {
    fn of(wanted: &Wanted) -> Idle {
        let (uid, version) = (wanted.uid.as_str().into(), wanted.version.0.as_str().into());
        Idle { uid, version, mark: wanted.mark }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use message::{Json, ObjectKind};

    fn key() -> ObjectKey {
        ObjectKey::new(Some("d"), ObjectKind::Secret, "s")
    }

    fn state(uid: &str, version: u64) -> Wanted {
        let (version, object) = (ResourceVersion(version.to_string()), Json::null().into());
        let mark = version.0.len() as u64 + version.0.bytes().map(u64::from).sum::<u64>();
        Wanted { key: key(), uid: uid.to_owned(), version, mark, object }
    }

    fn version(bodies: &Bodies) -> Option<&str> {
        bodies.get(&key()).map(|wanted| wanted.version.0.as_str())
    }

    fn missing(bodies: &Bodies) -> Vec<ObjectKey> {
        bodies.missing().cloned().collect()
    }

    #[test]
    fn a_text_that_went_is_fetched_for_the_node_that_is_to_be_sent_it() {
        let mut bodies = Bodies::new(0);
        assert!(bodies.put(&state("u", 1), true));
        let sent = bodies.get(&key()).cloned().unwrap();
        assert!(sent.object.is_here());
        let other = ObjectKey::new(Some("d"), ObjectKind::Secret, "other");
        assert!(bodies.put(&Wanted { key: other, ..state("o", 1) }, true));
        assert!(!sent.object.is_here() && missing(&bodies).is_empty());
        assert!(bodies.want(&key()).is_none());
        assert_eq!(missing(&bodies), [key()]);
        assert!(
            bodies
                .fetched(state("u", 1))
                .is_some_and(|(again, replaced)| again.object.is_here() && replaced.is_none())
        );
        assert!(sent.object.is_here() && missing(&bodies).is_empty());
        assert!(bodies.want(&key()).is_some());
    }

    #[test]
    fn a_text_is_here_only_while_a_node_has_a_use_for_it() {
        let mut bodies = Bodies::new(usize::MAX);
        assert!(!bodies.put(&state("u", 1), false));
        assert_eq!((version(&bodies), bodies.mark_of(&key())), (None, Some(state("u", 1).mark)));
        assert!(bodies.begin_use(&key()).is_none());
        assert_eq!(missing(&bodies), [key()]);
        assert!(bodies.fetched(state("u", 1)).is_some());
        assert_eq!((version(&bodies), missing(&bodies)), (Some("1"), Vec::new()));
        assert!(bodies.put(&state("u", 2), true) && !bodies.put(&state("u", 2), true));
        bodies.end_use(&key());
        assert_eq!((version(&bodies), bodies.uid_of(&key()).as_deref()), (None, Some("u")));
        assert!(bodies.gone(&key(), "u") && !bodies.gone(&key(), "u"));
        assert_eq!(bodies.mark_of(&key()), None);
    }

    #[test]
    fn a_watch_that_is_behind_a_fetched_text_takes_nothing_back() {
        let mut bodies = Bodies::new(usize::MAX);
        bodies.put(&state("u", 1), false);
        bodies.begin_use(&key());
        assert!(bodies.fetched(state("new", 5)).is_some());
        assert!(!bodies.put(&state("u", 2), true) && !bodies.gone(&key(), "u"));
        assert_eq!(version(&bodies), Some("5"));
        assert!(bodies.put(&state("new", 6), true));
        // From here on the watch's word counts, also that of a server that was given an older state of its own.
        assert!(bodies.put(&state("new", 4), true));
        assert_eq!(version(&bodies), Some("4"));
    }

    #[test]
    fn a_watch_is_behind_a_fetched_text_also_after_nobody_had_a_use_for_it() {
        let mut bodies = Bodies::new(usize::MAX);
        bodies.put(&state("u", 1), false);
        bodies.begin_use(&key());
        assert!(bodies.fetched(state("new", 5)).is_some());
        bodies.end_use(&key());
        assert!(!bodies.put(&state("u", 2), false));
        bodies.begin_use(&key());
        assert!(bodies.fetched(state("new", 5)).is_some());
        assert!(!bodies.put(&state("u", 3), true));
        assert_eq!(version(&bodies), Some("5"));
        assert!(!bodies.put(&state("new", 5), true), "nobody's news");
        assert!(bodies.put(&state("new", 4), true), "from here on the watch's word counts");
    }

    #[test]
    fn what_comes_while_a_text_is_fetched_is_newer_than_the_question() {
        let asked = || {
            let mut bodies = Bodies::new(usize::MAX);
            bodies.put(&state("u", 1), false);
            bodies.begin_use(&key());
            bodies
        };
        let mut put = asked();
        put.put(&state("u", 2), true);
        assert!(put.fetched(state("u", 1)).is_none());
        assert_eq!(version(&put), Some("2"));
        let mut gone = asked();
        gone.gone(&key(), "u");
        assert!(gone.fetched(state("u", 1)).is_none() && missing(&gone).is_empty());
        assert_eq!(version(&gone), None);
        // Asked for twice: the first answer is older than what was told between the questions.
        let mut again = asked();
        again.end_use(&key());
        again.put(&state("u", 2), false);
        again.begin_use(&key());
        assert!(again.fetched(state("u", 1)).is_none());
        assert_eq!(missing(&again), [key()], "it is asked for again");
        assert!(again.fetched(state("u", 2)).is_some());
    }
}
