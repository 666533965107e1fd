//! What was done, and what a client told of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// An event as a client told it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Event {
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub kind: String,
    pub name: String,
    /// The object's resource version.
    pub version: String,
}

/// How a client's events differ from what was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub told: usize,
    /// Changes that it never told of.
    pub missed: Vec<String>,
    /// States that it told twice.
    pub doubled: Vec<String>,
    /// What was never so.
    pub phantom: Vec<String>,
}

impl Verdict {
    pub fn is_right(&self) -> bool {
        self.missed.is_empty() && self.doubled.is_empty() && self.phantom.is_empty()
    }
}

/// Every change that was answered, in order. A deletion's version is not answered, so deletions are counted.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    states: BTreeMap<String, String>,
    deletions: BTreeMap<String, usize>,
    order: Vec<(String, String)>,
}

impl Ledger {
    pub(crate) fn added(&mut self, name: &str, version: String) {
        self.modified(name, version);
    }

    pub(crate) fn modified(&mut self, name: &str, version: String) {
        self.states.insert(version.clone(), name.to_owned());
        self.order.push((name.to_owned(), version));
    }

    pub(crate) fn deleted(&mut self, name: &str) {
        *self.deletions.entry(name.to_owned()).or_default() += 1;
    }

    pub(crate) fn judge(&self, told: &[Event]) -> Verdict {
        let mut verdict = Verdict { told: told.len(), ..Verdict::default() };
        let mut seen = BTreeSet::new();
        let mut deletions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for event in told {
            let Event { kind, name, version } = event;
            let what = format!("{kind} {name} {version}");
            if kind == "DELETED" {
                if !deletions.entry(name).or_default().insert(version) {
                    verdict.doubled.push(what);
                }
                continue;
            }
            match self.states.get(version) {
                Some(of) if of == name => {
                    if !seen.insert(version.as_str()) {
                        verdict.doubled.push(what);
                    }
                }
                _ => verdict.phantom.push(what),
            }
        }
        for (name, version) in &self.order {
            if !seen.contains(version.as_str()) {
                verdict.missed.push(format!("{name} {version}"));
            }
        }
        let names: BTreeSet<&str> =
            self.deletions.keys().map(String::as_str).chain(deletions.keys().copied()).collect();
        for name in names {
            let done = self.deletions.get(name).copied().unwrap_or(0);
            let told = deletions.get(name).map_or(0, BTreeSet::len);
            if told < done {
                verdict.missed.push(format!("{} deletions of {name}", done - told));
            } else if told > done {
                verdict.phantom.push(format!("{} deletions of {name}", told - done));
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, name: &str, version: &str) -> Event {
        Event { kind: kind.to_owned(), name: name.to_owned(), version: version.to_owned() }
    }

    #[test]
    fn what_is_missing_told_twice_or_never_was_is_found() {
        let mut ledger = Ledger::default();
        ledger.added("a", "1".to_owned());
        ledger.modified("a", "2".to_owned());
        ledger.deleted("a");
        ledger.added("a", "4".to_owned());
        let right = [
            event("ADDED", "a", "1"),
            event("MODIFIED", "a", "2"),
            event("DELETED", "a", "3"),
            event("ADDED", "a", "4"),
        ];
        assert!(ledger.judge(&right).is_right());
        assert_eq!(ledger.judge(&right[1..]).missed, ["a 1"]);
        assert_eq!(ledger.judge(&[&right[..2], &right[3..]].concat()).missed, ["1 deletions of a"]);
        assert_eq!(ledger.judge(&[&right[..], &right[1..2]].concat()).doubled, ["MODIFIED a 2"]);
        let phantom = [&right[..], &[event("MODIFIED", "a", "9"), event("ADDED", "b", "2")]].concat();
        assert_eq!(ledger.judge(&phantom).phantom, ["MODIFIED a 9", "ADDED b 2"]);
        let again = [&right[..], &[event("DELETED", "a", "7")]].concat();
        assert_eq!(ledger.judge(&again).phantom, ["1 deletions of a"]);
    }
}
