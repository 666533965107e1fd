//! Work by key: each key waits once, failures come back after a growing time, and not too many of them at once.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::backoff::doubled;
use daemon::rate::{Debt, Rate};
use tokio::sync::Notify;
use tokio::time::Instant;

/// As client-go's default: the first wait after a failure, and the longest.
const FIRST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(300);
/// Failures of all keys together, as client-go's default.
const FAILURES: Rate = Rate::per_second(10, 100);

/// What waits; pure.
#[derive(Debug)]
pub struct State<K> {
    ready: VecDeque<K>,
    waiting: HashMap<K, Waiting>,
    /// The keys that are to come later, by time.
    later: BTreeSet<(Instant, K)>,
    failures: HashMap<K, u32>,
    debt: Debt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Ready,
    Until(Instant),
}

impl<K> Default for State<K> {
    fn default() -> Self {
        State {
            ready: VecDeque::new(),
            waiting: HashMap::new(),
            later: BTreeSet::new(),
            failures: HashMap::new(),
            debt: Debt::default(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    /// As soon as possible.
    pub fn add(&mut self, key: K) {
        match self.waiting.insert(key.clone(), Waiting::Ready) {
            Some(Waiting::Ready) => return,
            Some(Waiting::Until(when)) => drop(self.later.remove(&(when, key.clone()))),
            None => {}
        }
        self.ready.push_back(key);
    }

    /// At this time, or earlier if it waits already.
    pub fn add_at(&mut self, key: K, when: Instant) {
        match self.waiting.get(&key) {
            Some(Waiting::Ready) => return,
            Some(Waiting::Until(earlier)) if *earlier <= when => return,
            Some(Waiting::Until(later)) => drop(self.later.remove(&(*later, key.clone()))),
            None => {}
        }
        self.waiting.insert(key.clone(), Waiting::Until(when));
        self.later.insert((when, key));
    }

    /// Comes back after a time that grows with the failures of this key.
    pub fn failed(&mut self, key: K, now: Instant) {
        let failures = self.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        let own = doubled(FIRST, LONGEST, *failures - 1);
        let shared = self.debt.owe(&FAILURES, 1, now);
        self.add_at(key, now + own.max(shared));
    }

    /// Failures of this key so far.
    pub fn failures(&self, key: &K) -> u32 {
        self.failures.get(key).copied().unwrap_or(0)
    }

    pub fn succeeded(&mut self, key: &K) {
        self.failures.remove(key);
    }

    pub fn next(&mut self, now: Instant) -> Option<K> {
        while let Some((when, key)) = self.later.first().cloned() {
            if when > now {
                break;
            }
            self.later.pop_first();
            self.waiting.insert(key.clone(), Waiting::Ready);
            self.ready.push_back(key);
        }
        let key = self.ready.pop_front()?;
        self.waiting.remove(&key);
        Some(key)
    }

    /// When there is something to do next, if nothing is ready.
    pub fn wakes(&self) -> Option<Instant> {
        self.later.first().map(|(when, _)| *when)
    }
}

/// A [`State`] that tasks share: many put in, one takes out.
#[derive(Debug)]
pub struct Queue<K> {
    state: Mutex<State<K>>,
    filled: Notify,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Queue { state: Mutex::default(), filled: Notify::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, key: K) {
        self.state().add(key);
        self.filled.notify_one();
    }

    pub fn add_after(&self, key: K, wait: Duration) {
        self.state().add_at(key, Instant::now() + wait);
        self.filled.notify_one();
    }

    /// Returns how often this key has failed.
    pub fn failed(&self, key: K) -> u32 {
        let mut state = self.state();
        state.failed(key.clone(), Instant::now());
        let failures = state.failures(&key);
        drop(state);
        self.filled.notify_one();
        failures
    }

    pub fn succeeded(&self, key: &K) {
        self.state().succeeded(key);
    }

    /// The next key; waits until there is one.
    pub async fn next(&self) -> K {
        loop {
            let wakes = {
                let mut state = self.state();
                if let Some(key) = state.next(Instant::now()) {
                    return key;
                }
                state.wakes()
            };
            match wakes {
                None => self.filled.notified().await,
                Some(when) => {
                    // Either is a reason to look again.
                    let _ = tokio::time::timeout_at(when, self.filled.notified()).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_waits_once_and_an_earlier_time_counts() {
        let (mut state, now) = (State::default(), Instant::now());
        state.add("a");
        state.add("a");
        state.add_at("a", now);
        state.add_at("b", now + Duration::from_secs(9));
        state.add_at("b", now + Duration::from_secs(3));
        state.add_at("b", now + Duration::from_secs(5));
        assert_eq!(state.next(now), Some("a"));
        assert_eq!(state.next(now), None);
        assert_eq!(state.wakes(), Some(now + Duration::from_secs(3)));
        assert_eq!(state.next(now + Duration::from_secs(3)), Some("b"));
        assert_eq!(state.next(now + Duration::from_secs(99)), None);
    }

    #[test]
    fn failures_wait_longer_each_time_until_a_success() {
        let (mut state, now) = (State::default(), Instant::now());
        for wait in [5, 10, 20, 40] {
            state.failed("a", now);
            let wakes = state.wakes().unwrap();
            assert_eq!(wakes - now, Duration::from_millis(wait));
            state.next(wakes);
        }
        state.succeeded(&"a");
        state.failed("a", now);
        assert_eq!(state.wakes().unwrap() - now, Duration::from_millis(5));
    }

    #[test]
    fn what_is_ready_needs_no_timer() {
        let (mut state, now) = (State::default(), Instant::now());
        state.add_at("a", now + Duration::from_secs(60));
        state.add("a");
        assert_eq!((state.wakes(), state.next(now)), (None, Some("a")));
    }
}
