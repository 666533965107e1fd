//! What a node asked for and how far it is carried out. Pure.
//!
//! ```text
//! received --start()--> running --finished--> done, told to the node
//! ```
//!
//! Rows are named by their place: the first of a session is 1. Rows of the same key (a pod, a device) are carried out one
//! after the other, in order; others side by side.

use std::collections::{BTreeMap, BTreeSet};

/// Rows one session may carry out at once: enough to hide the API server's latency, few enough to share it.
const RUNNING: usize = 16;

/// Rows a node may have outstanding. Its own window is smaller; more breaks the protocol.
pub const MAX_OUTSTANDING: usize = 1024;

/// Rows of one session, by place. `T` is what a row asks.
#[derive(Debug)]
pub struct UpLog<T> {
    waiting: BTreeMap<u64, (String, T)>,
    running: BTreeMap<u64, String>,
    /// Finished and not told yet.
    finished: BTreeSet<u64>,
    /// Place of the newest row.
    newest: u64,
}

/// What the node may forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Every row up to this one.
    pub through: u64,
    /// These beyond it.
    pub also: Vec<u64>,
}

impl<T> Default for UpLog<T> {
    fn default() -> UpLog<T> {
        UpLog { waiting: BTreeMap::new(), running: BTreeMap::new(), finished: BTreeSet::new(), newest: 0 }
    }
}

impl<T> UpLog<T> {
    /// Takes in a row. False if the node has too many outstanding.
    pub fn receive(&mut self, seq: u64, key: String, row: T) -> bool {
        self.newest = self.newest.max(seq);
        if !self.running.contains_key(&seq) {
            self.waiting.insert(seq, (key, row));
        }
        self.waiting.len() + self.running.len() <= MAX_OUTSTANDING
    }

    /// Place of the newest row.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// The oldest row that may be carried out now.
    pub fn start(&mut self) -> Option<(u64, T)> {
        if self.running.len() >= RUNNING || self.waiting.is_empty() {
            return None;
        }
        let mut busy: BTreeSet<&str> = self.running.values().map(String::as_str).collect();
        let mut free = None;
        for (seq, (key, _)) in &self.waiting {
            if busy.insert(key) {
                free = Some(*seq);
                break;
            }
        }
        let seq = free?;
        let (key, row) = self.waiting.remove(&seq)?;
        self.running.insert(seq, key);
        Some((seq, row))
    }

    /// A row is carried out.
    pub fn finish(&mut self, seq: u64) {
        if self.running.remove(&seq).is_some() {
            self.finished.insert(seq);
        }
    }

    /// What is new to tell.
    pub fn progress(&mut self) -> Option<Progress> {
        if self.finished.is_empty() {
            return None;
        }
        let firsts = [self.waiting.keys().next(), self.running.keys().next()];
        let unfinished = firsts.into_iter().flatten().min();
        let through = unfinished.map_or(self.newest, |seq| seq - 1);
        let finished = std::mem::take(&mut self.finished);
        Some(Progress { through, also: finished.into_iter().filter(|seq| *seq > through).collect() })
    }

    /// True while another row may be taken in without exceeding what a node may have outstanding.
    pub fn has_room(&self) -> bool {
        self.waiting.len() + self.running.len() < MAX_OUTSTANDING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_key_wait_for_each_other_and_others_do_not() {
        let mut log = UpLog::default();
        for (seq, key) in [(3, "a"), (4, "a"), (6, "b")] {
            assert!(log.receive(seq, key.into(), ()));
        }
        assert_eq!(log.start(), Some((3, ())));
        assert_eq!(log.start(), Some((6, ())));
        assert_eq!(log.start(), None);
        log.finish(6);
        assert_eq!(log.progress(), Some(Progress { through: 2, also: vec![6] }));
        assert_eq!(log.progress(), None);
        log.finish(3);
        assert_eq!(log.progress(), Some(Progress { through: 3, also: vec![] }));
        assert_eq!(log.start(), Some((4, ())));
        log.finish(4);
        assert_eq!(log.progress(), Some(Progress { through: 6, also: vec![] }));
        assert!(log.start().is_none());
    }

    #[test]
    fn a_node_that_sends_without_waiting_is_noticed() {
        let mut log = UpLog::default();
        let taken = (1..=MAX_OUTSTANDING as u64 + 1).filter(|seq| log.receive(*seq, "k".into(), ())).count();
        assert_eq!(taken, MAX_OUTSTANDING);
    }
}
