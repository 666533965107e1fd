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
//! What is missing stays idle until its text is here. An answer may be ahead of the watch, which then tells of older states. A put or a removal that comes while the text is fetched is newer than the
//! question, so the answer is dropped.

use std::collections::{BTreeSet, HashMap, HashSet};

use message::{ObjectKey, ResourceVersion};

use super::{Wanted, is_same};

/// What is kept of an object that no node has a use for.
#[derive(Debug)]
struct Idle {
    uid: Box<str>,
    version: Box<str>,
    mark: u64,
}

#[derive(Debug, Default)]
pub(super) struct Bodies {
    whole: HashMap<ObjectKey, Wanted>,
    idle: HashMap<ObjectKey, Idle>,
    /// Of those that are idle: a node has a use for them by now.
    missing: BTreeSet<ObjectKey>,
    /// Of those that are whole: fetched, and the watch has not told of a state as new as that.
    ahead: HashSet<ObjectKey>,
}

impl Bodies {
    pub fn get(&self, key: &ObjectKey) -> Option<&Wanted> {
        self.whole.get(key)
    }

    pub fn mark_of(&self, key: &ObjectKey) -> Option<u64> {
        let whole = self.whole.get(key).map(|wanted| wanted.mark);
        whole.or_else(|| self.idle.get(key).map(|idle| idle.mark))
    }

    pub fn uid_of(&self, key: &ObjectKey) -> Option<String> {
        let whole = self.whole.get(key).map(|wanted| wanted.uid.clone());
        whole.or_else(|| self.idle.get(key).map(|idle| idle.uid.to_string()))
    }

    pub fn missing(&self) -> Vec<ObjectKey> {
        self.missing.iter().cloned().collect()
    }

    pub fn is_missing(&self, key: &ObjectKey) -> bool {
        self.missing.contains(key)
    }

    pub fn is_any_missing(&self) -> bool {
        !self.missing.is_empty()
    }

    /// The object is now this. False if nodes that have it need not hear of it.
    pub fn put(&mut self, wanted: &Wanted, is_used: bool) -> bool {
        if self.whole.get(&wanted.key).is_some_and(|known| is_same(known, wanted)) {
            return false;
        }
        if self.is_older(wanted) {
            return false;
        }
        self.ahead.remove(&wanted.key);
        self.missing.remove(&wanted.key);
        if is_used {
            self.idle.remove(&wanted.key);
            self.whole.insert(wanted.key.clone(), wanted.clone());
        } else {
            self.idle.insert(wanted.key.clone(), Idle::of(wanted));
        }
        is_used
    }

    /// The object of that uid is gone. False if another one has its name, or none.
    pub fn gone(&mut self, key: &ObjectKey, uid: &str) -> bool {
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
        let known = self.whole.get(&wanted.key).filter(|_| self.ahead.contains(&wanted.key));
        known.is_some_and(|known| known.version.is_newer_than(&wanted.version))
    }

    /// A node has a use for the object from now on: its text, or `None` if there is none or it must be fetched.
    pub fn begin_use(&mut self, key: &ObjectKey) -> Option<&Wanted> {
        if self.idle.contains_key(key) {
            self.missing.insert(key.clone());
        }
        self.whole.get(key)
    }

    /// No node has a use for the object any more.
    pub fn end_use(&mut self, key: &ObjectKey) {
        self.missing.remove(key);
        self.ahead.remove(key);
        if let Some(wanted) = self.whole.remove(key) {
            self.idle.insert(key.clone(), Idle::of(&wanted));
        }
    }

    /// The text that was asked for. False if it is not missing any more, or older than what a watch has told: then it stays
    /// missing.
    pub fn fetched(&mut self, wanted: &Wanted) -> bool {
        let known = self.idle.get(&wanted.key).filter(|_| self.missing.contains(&wanted.key));
        let Some(known) = known else { return false };
        if ResourceVersion(known.version.to_string()).is_newer_than(&wanted.version) {
            return false;
        }
        if &*known.version != wanted.version.0.as_str() {
            self.ahead.insert(wanted.key.clone());
        }
        self.missing.remove(&wanted.key);
        self.idle.remove(&wanted.key);
        self.whole.insert(wanted.key.clone(), wanted.clone());
        true
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
        let (version, object) = (ResourceVersion(version.to_string()), Json::null());
        let mark = version.0.len() as u64 + version.0.bytes().map(u64::from).sum::<u64>();
        Wanted { key: key(), uid: uid.to_owned(), version, mark, object }
    }

    fn version(bodies: &Bodies) -> Option<&str> {
        bodies.get(&key()).map(|wanted| wanted.version.0.as_str())
    }

    #[test]
    fn a_text_is_here_only_while_a_node_has_a_use_for_it() {
        let mut bodies = Bodies::default();
        assert!(!bodies.put(&state("u", 1), false));
        assert_eq!((version(&bodies), bodies.mark_of(&key())), (None, Some(state("u", 1).mark)));
        assert!(bodies.begin_use(&key()).is_none());
        assert_eq!(bodies.missing(), [key()]);
        assert!(bodies.fetched(&state("u", 1)));
        assert_eq!((version(&bodies), bodies.missing()), (Some("1"), Vec::new()));
        assert!(bodies.put(&state("u", 2), true) && !bodies.put(&state("u", 2), true));
        bodies.end_use(&key());
        assert_eq!((version(&bodies), bodies.uid_of(&key()).as_deref()), (None, Some("u")));
        assert!(bodies.gone(&key(), "u") && !bodies.gone(&key(), "u"));
        assert_eq!(bodies.mark_of(&key()), None);
    }

    #[test]
    fn a_watch_that_is_behind_a_fetched_text_takes_nothing_back() {
        let mut bodies = Bodies::default();
        bodies.put(&state("u", 1), false);
        bodies.begin_use(&key());
        assert!(bodies.fetched(&state("new", 5)));
        assert!(!bodies.put(&state("u", 2), true) && !bodies.gone(&key(), "u"));
        assert_eq!(version(&bodies), Some("5"));
        assert!(bodies.put(&state("new", 6), true));
        // From here on the watch's word counts, also that of a server that was given an older state of its own.
        assert!(bodies.put(&state("new", 4), true));
        assert_eq!(version(&bodies), Some("4"));
    }

    #[test]
    fn what_comes_while_a_text_is_fetched_is_newer_than_the_question() {
        let missing = || {
            let mut bodies = Bodies::default();
            bodies.put(&state("u", 1), false);
            bodies.begin_use(&key());
            bodies
        };
        let mut put = missing();
        put.put(&state("u", 2), true);
        assert!(!put.fetched(&state("u", 1)));
        assert_eq!(version(&put), Some("2"));
        let mut gone = missing();
        gone.gone(&key(), "u");
        assert!(!gone.fetched(&state("u", 1)) && gone.missing().is_empty());
        assert_eq!(version(&gone), None);
        // Asked for twice: the first answer is older than what was told between the questions.
        let mut again = missing();
        again.end_use(&key());
        again.put(&state("u", 2), false);
        again.begin_use(&key());
        assert!(!again.fetched(&state("u", 1)));
        assert_eq!(again.missing(), [key()], "it is asked for again");
        assert!(again.fetched(&state("u", 2)));
    }
}
