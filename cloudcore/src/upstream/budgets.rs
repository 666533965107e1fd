//! How many objects a node may make: bytes are limited elsewhere, and small objects fill an API server as well. A node
//! that makes more than any healthy one does is refused the rest, and nobody else is. What nodes may make has turns, so
//! that many who do so at once do not keep the API server from what is urgent. Pure but for the lock and the turns.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::rate::{Debts, Rate};
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
    fn rate(self) -> Rate {
        match self {
            // A node that starts a hundred pods at once tells some six events of each; they last for an hour.
            Made::Event => Rate::per_second(1, 1000),
            Made::Mirror => Rate::new(1, Duration::from_secs(2), MIRRORS as u64),
            // One for each start of EdgeCore, and one at every renewal. Controllers delete those that are a day old.
            Made::Request => Rate::new(1, Duration::from_secs(600), 10),
        }
    }
}

/// Mirror pods a node may have: no node runs more pods by default.
pub(super) const MIRRORS: usize = 110;

/// Objects of all nodes that are made at once.
const TURNS: usize = 4;

/// What each node has made lately, by kind. Clones share it.
#[derive(Clone)]
pub struct Budgets {
    made: Arc<Mutex<Debts<(NodeName, Made)>>>,
    turns: Arc<Semaphore>,
}

impl Default for Budgets {
    fn default() -> Budgets {
        Budgets { made: Arc::default(), turns: Arc::new(Semaphore::new(TURNS)) }
    }
}

impl Budgets {
    /// Waits for a turn to make an object, which lasts until the answer is dropped; first come, first served.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // Never closed.
        self.turns.clone().acquire_owned().await.ok()
    }

    /// False if `node` has made too many; else one is written down.
    pub fn take(&self, node: &NodeName, made: Made, now: Instant) -> bool {
        let mut all = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        all.of(&(node.clone(), made), now).take(&made.rate(), 1, now).is_ok()
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
}
