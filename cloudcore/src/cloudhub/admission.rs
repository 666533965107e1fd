//! How many nodes may start a session per second. Pure.
//!
//! After an outage every node comes at once. Those beyond the rate are told when to come back, each at another time, and have
//! their turn then: they form a line without holding anything here but their names.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use daemon::rate::{Debt, Rate};
use message::NodeName;
use tokio::time::Instant;

/// Longest time a node is sent away for. Beyond it the line grows no longer: a node comes back to ask again.
const LONGEST: Duration = Duration::from_secs(30);
/// How long a turn is kept for a node that is late. Go edges come back after 30 s, whatever they are told.
const KEPT: Duration = Duration::from_secs(40);
/// Waits are told in milliseconds, and clocks differ a little.
const EARLY: Duration = Duration::from_millis(50);

/// A rate whose refusals are appointments.
#[derive(Debug)]
pub(super) struct Admission {
    rate: Rate,
    started: Debt,
    turns: HashMap<NodeName, Instant>,
    /// The same, in order.
    line: VecDeque<(Instant, NodeName)>,
}

impl Admission {
    /// `rate` sessions per second, and `burst` at once.
    pub(super) fn new(rate: u32, burst: u32) -> Admission {
        let rate = Rate::per_second(rate.into(), burst.max(1).into());
        Admission { rate, started: Debt::default(), turns: HashMap::new(), line: VecDeque::new() }
    }

    /// Lets a session of `node` start, or says after what time to come back.
    pub(super) fn admit(&mut self, node: &NodeName, now: Instant) -> Result<(), Duration> {
        self.forget_late(now);
        if let Some(turn) = self.turns.get(node) {
            let early = turn.saturating_duration_since(now);
            if early > EARLY {
                return Err(early);
            }
            self.turns.remove(node);
            return Ok(());
        }
        let Err(wait) = self.started.take(&self.rate, 1, now) else { return Ok(()) };
        if wait > LONGEST {
            return Err(LONGEST);
        }
        self.started.owe(&self.rate, 1, now);
        self.turns.insert(node.clone(), now + wait);
        self.line.push_back((now + wait, node.clone()));
        Err(wait)
    }

    fn forget_late(&mut self, now: Instant) {
        while let Some((turn, node)) = self.line.front()
            && *turn + KEPT < now
        {
            // It may have had its turn, and another one since.
            if self.turns.get(node) == Some(turn) {
                self.turns.remove(node);
            }
            self.line.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: usize) -> NodeName {
        NodeName::new(&format!("e{number}")).unwrap()
    }

    #[test]
    fn a_burst_passes_and_the_rest_gets_appointments_one_after_the_other() {
        let now = Instant::now();
        let mut admission = Admission::new(10, 3);
        assert!((0..3).all(|number| admission.admit(&node(number), now).is_ok()));
        assert_eq!(admission.admit(&node(3), now), Err(Duration::from_millis(100)));
        assert_eq!(admission.admit(&node(4), now), Err(Duration::from_millis(200)));
        assert_eq!(admission.admit(&node(4), now), Err(Duration::from_millis(200)), "its turn is the same");
        let later = now + Duration::from_secs(5);
        assert!((5..8).all(|number| admission.admit(&node(number), later).is_ok()));
        assert!(admission.admit(&node(8), later).is_err());
    }

    #[test]
    fn nobody_takes_the_turn_of_a_node_that_comes_back_when_it_was_told_to() {
        let now = Instant::now();
        let mut admission = Admission::new(1000, 1000);
        let first: Vec<Duration> =
            (0..10_000).filter_map(|number| admission.admit(&node(number), now).err()).collect();
        assert_eq!((first.len(), first.iter().max().copied()), (9000, Some(Duration::from_secs(9))));
        // Newcomers all the time, as many as there is room for.
        let admitted = first.iter().enumerate().all(|(place, wait)| {
            let newcomer = admission.admit(&node(20_000 + place), now + *wait);
            newcomer.is_err() && admission.admit(&node(1000 + place), now + *wait).is_ok()
        });
        assert!(admitted);
    }

    #[test]
    fn a_node_that_is_late_has_its_turn_and_one_that_never_comes_is_forgotten() {
        let now = Instant::now();
        let mut admission = Admission::new(1, 1);
        admission.admit(&node(0), now).unwrap();
        let waits = [1, 2].map(|number| admission.admit(&node(number), now).unwrap_err());
        assert_eq!(waits, [1, 2].map(Duration::from_secs));
        assert!(admission.admit(&node(1), now + Duration::from_secs(31)).is_ok());
        admission.admit(&node(3), now + LONGEST * 10).unwrap();
        assert!(admission.turns.is_empty() && admission.line.is_empty());
    }

    #[test]
    fn nobody_is_sent_away_for_longer_than_the_longest_and_the_line_grows_no_longer_than_that() {
        let now = Instant::now();
        let mut admission = Admission::new(1, 1);
        let longest = (0..1000).filter_map(|number| admission.admit(&node(number), now).err()).max();
        assert_eq!((longest, admission.line.len()), (Some(LONGEST), 30));
    }
}
