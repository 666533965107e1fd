//! How many objects a node may make: bytes are limited elsewhere, and small objects fill an API server as well. A node
//! that makes more than any healthy one does is refused the rest, and nobody else is. What nodes may make has turns, so
//! that many who do so at once do not keep the API server from what is urgent. Pure but for the lock and the turns.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use message::NodeName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// What a node makes objects of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Made {
    Event,
    /// A pod from a file, shown in the API.
    Mirror,
    /// A certificate signing request.
    Request,
}

impl Made {
    /// How many at once, and the time after which one more may be made.
    fn terms(self) -> (u32, Duration) {
        match self {
            // A node that starts a hundred pods at once tells some six events of each; they last for an hour.
            Made::Event => (1000, Duration::from_secs(1)),
            Made::Mirror => (MIRRORS as u32, Duration::from_secs(2)),
            // One for each start of EdgeCore, and one at every renewal. Controllers delete those that are a day old.
            Made::Request => (10, Duration::from_secs(600)),
        }
    }
}

/// Mirror pods a node may have: no node runs more pods by default.
pub const MIRRORS: usize = 110;

/// Objects of all nodes that are made at once.
const TURNS: usize = 4;

/// Entries kept without looking whether they are even.
const FEWEST: usize = 1024;

/// One entry per node and kind that is not even. Clones share it.
#[derive(Clone)]
pub struct Budgets {
    accounts: Arc<Mutex<Accounts>>,
    turns: Arc<Semaphore>,
}

impl Default for Budgets {
    fn default() -> Budgets {
        Budgets { accounts: Arc::default(), turns: Arc::new(Semaphore::new(TURNS)) }
    }
}

#[derive(Default)]
struct Accounts {
    /// When everything that was made is paid for.
    even: HashMap<(NodeName, Made), Instant>,
    /// At how many entries the even ones are dropped.
    full: usize,
}

impl Budgets {
    /// Waits for a turn to make an object, which lasts until the answer is dropped; first come, first served.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // Never closed.
        self.turns.clone().acquire_owned().await.ok()
    }

    /// False if `node` has made too many; else one is written down.
    pub fn take(&self, node: &NodeName, made: Made, now: Instant) -> bool {
        let (burst, each) = made.terms();
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.even.len() >= accounts.full.max(FEWEST) {
            accounts.even.retain(|_, even| *even > now);
            accounts.full = accounts.even.len() * 2;
        }
        let even = accounts.even.entry((node.clone(), made)).or_insert(now);
        let paid = (*even).max(now) + each;
        if paid > now + each * burst {
            return false;
        }
        *even = paid;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_objects_than_there_are_turns_are_made_at_once_by_all_nodes() {
        let budgets = Budgets::default();
        let mut turns = Vec::new();
        for _ in 0..TURNS {
            turns.push(budgets.turn().await);
        }
        let waits = tokio::time::timeout(Duration::from_secs(60), budgets.turn());
        assert!(waits.await.is_err());
        turns.pop();
        assert!(budgets.turn().await.is_some());
    }

    #[test]
    fn a_node_makes_so_many_at_once_then_one_at_a_time_and_others_are_not_concerned() {
        let (budgets, now) = (Budgets::default(), Instant::now());
        let [a, b] = ["a", "b"].map(|name| NodeName::new(name).unwrap());
        let made = (0..5000).filter(|_| budgets.take(&a, Made::Event, now)).count();
        assert_eq!(made, 1000);
        assert!(budgets.take(&a, Made::Request, now) && budgets.take(&b, Made::Event, now));
        let later = now + Duration::from_secs(3);
        assert_eq!((0..10).filter(|_| budgets.take(&a, Made::Event, later)).count(), 3);
    }

    #[test]
    fn nodes_that_are_even_are_forgotten() {
        let (budgets, start) = (Budgets::default(), Instant::now());
        for i in 0..20_000u64 {
            let node = NodeName::new(&format!("n-{i}")).unwrap();
            assert!(budgets.take(&node, Made::Event, start + Duration::from_millis(i * 10)));
        }
        assert!(budgets.accounts.lock().unwrap().even.len() <= FEWEST);
    }
}
