//! Requests that are looked at again later: one of each node, the newest. Pure.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Attempts at a request that the API server fails.
pub(super) const TRIES: u32 = 12;
/// Wait before an approval that failed is tried again.
pub(super) const AGAIN: Duration = Duration::from_secs(5);
/// First and longest wait before a request is looked at again that its node's object says nothing of; each is twice the one
/// before.
const LOOK: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(160));
/// Nodes with a request that waits. A cluster has fewer nodes.
const NODES: usize = 16 * 1024;

/// A request, and what has been tried of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// Its name.
    pub request: String,
    failures: u32,
    looks: u32,
}

impl Job {
    pub(super) fn new(request: &str) -> Job {
        Job { request: request.to_owned(), failures: 0, looks: 0 }
    }
}

/// What waits, by the names of nodes: no node has more than one that waits, whatever it asks for.
#[derive(Default)]
pub(super) struct Waiting(HashMap<String, (Instant, Job)>);

impl Waiting {
    /// `node` has not told yet what `job` names.
    pub(super) fn not_yet(&mut self, node: String, mut job: Job, now: Instant) {
        let wait = LOOK.0 * 2_u32.pow(job.looks.min(16));
        (job.looks, job.failures) = (job.looks.saturating_add(1), 0);
        self.put(node, now + wait.min(LOOK.1), job);
    }

    /// The API server failed. False: it was tried often enough.
    pub(super) fn failed(&mut self, node: String, mut job: Job, now: Instant) -> bool {
        job.failures += 1;
        if job.failures >= TRIES {
            return false;
        }
        self.put(node, now + AGAIN, job);
        true
    }

    fn put(&mut self, node: String, due: Instant, job: Job) {
        if self.0.len() < NODES || self.0.contains_key(&node) {
            self.0.insert(node, (due, job));
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|(due, _)| *due).min()
    }

    /// One that is due. It does not wait any more.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Job> {
        let (node, (due, _)) = self.0.iter().min_by_key(|(_, (due, _))| *due)?;
        if *due > now {
            return None;
        }
        let node = node.clone();
        self.0.remove(&node).map(|(_, job)| job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_one_request_that_waits_and_it_is_looked_at_less_and_less_often() {
        let (mut waiting, start) = (Waiting::default(), Instant::now());
        waiting.not_yet("n".into(), Job::new("old"), start);
        waiting.not_yet("n".into(), Job::new("new"), start);
        waiting.not_yet("m".into(), Job::new("other"), start + LOOK.0);
        assert_eq!(waiting.next(), Some(start + LOOK.0));
        assert_eq!(waiting.take_due(start), None);
        let mut now = start + LOOK.0;
        let mut job = waiting.take_due(now).unwrap();
        assert_eq!(job.request, "new");
        waiting.take_due(now + LOOK.0).unwrap();
        let mut waits = Vec::new();
        for _ in 0..10 {
            waiting.not_yet("n".into(), job, now);
            let due = waiting.next().unwrap();
            waits.push((due - now).as_secs());
            now = due;
            job = waiting.take_due(now).unwrap();
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 160, 160, 160, 160, 160]);
    }

    #[test]
    fn what_fails_is_tried_so_often_and_no_more() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        let mut job = Job::new("r");
        let mut tries = 1;
        while waiting.failed("n".into(), job, now) {
            job = waiting.take_due(now + AGAIN).unwrap();
            tries += 1;
        }
        assert_eq!(tries, TRIES);
        assert_eq!(waiting.next(), None);
    }
}
