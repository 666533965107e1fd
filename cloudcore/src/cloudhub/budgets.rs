//! How many objects a node may make: bytes are limited elsewhere, and small objects fill an API server as well. A node
//! that makes more than any healthy one does is refused the rest, and nobody else is. Pure but for the lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use message::NodeName;
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

/// Entries kept without looking whether they are even.
const FEWEST: usize = 1024;

/// One entry per node and kind that is not even. Clones share it.
#[derive(Clone, Default)]
pub struct Budgets {
    accounts: Arc<Mutex<Accounts>>,
}

#[derive(Default)]
struct Accounts {
    /// When everything that was made is paid for.
    even: HashMap<(NodeName, Made), Instant>,
    /// At how many entries the even ones are dropped.
    full: usize,
}

impl Budgets {
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
