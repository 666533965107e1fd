//! What the node has, and what of it pods may ask for (docs/protocol/edge-runtime.md 5.19).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nodebase::settings::{Floor, Settings};
use podmodel::demand::Amounts;
use podmodel::machine::Machine;

/// Handle of what others than the machine itself add: the resources of device plugins.
#[derive(Default)]
pub struct Capacity {
    extended: Mutex<BTreeMap<String, Extended>>,
}

/// A resource that is counted in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extended {
    pub capacity: i64,
    /// Healthy ones.
    pub allocatable: i64,
}

impl Capacity {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Extended>> {
        self.extended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what there is of an extended resource. One that went away is told as zero, so that the API server does
    /// not keep the last amount.
    pub fn offer(&self, resource: &str, amount: Extended) {
        self.lock().insert(resource.to_owned(), amount);
    }

    /// All the node has.
    pub fn total(&self, machine: &Machine, settings: &Settings) -> Amounts {
        let mut amounts = total(machine, settings);
        amounts.extend(self.lock().iter().map(|(name, amount)| (name.clone(), amount.capacity)));
        amounts
    }

    /// What pods may ask for.
    pub fn allocatable(&self, machine: &Machine, settings: &Settings) -> Amounts {
        let mut amounts = allocatable(machine, settings);
        amounts.extend(self.lock().iter().map(|(name, amount)| (name.clone(), amount.allocatable)));
        amounts
    }
}

const STORAGE: &str = "ephemeral-storage";

fn total(machine: &Machine, settings: &Settings) -> Amounts {
    let own = [
        ("cpu", machine.cpu_milli),
        ("memory", machine.memory),
        (STORAGE, machine.disk),
        ("pods", i64::from(settings.max_pods)),
    ];
    let own = own.into_iter().map(|(name, amount)| (name.to_owned(), amount));
    own.chain(machine.huge_pages.iter().cloned()).collect()
}

/// The capacity without what is reserved, what hard eviction keeps free, and memory that is huge pages already.
fn allocatable(machine: &Machine, settings: &Settings) -> Amounts {
    let mut amounts = total(machine, settings);
    let pages: i64 = machine.huge_pages.iter().map(|(_, bytes)| bytes).sum();
    let mut take = |name: &str, amount: i64| {
        if let Some(left) = amounts.get_mut(name) {
            *left = left.saturating_sub(amount).max(0);
        }
    };
    settings.reserved.iter().for_each(|(name, amount)| take(name, *amount));
    take("memory", pages);
    take("memory", kept_free(settings, "memory.available", machine.memory));
    take(STORAGE, kept_free(settings, "nodefs.available", machine.disk));
    amounts
}

/// What the hard threshold of a signal keeps free of `all`.
fn kept_free(settings: &Settings, signal: &str, all: i64) -> i64 {
    let hard = settings.eviction.thresholds.iter();
    let mut hard = hard.filter(|threshold| threshold.signal == signal && threshold.grace.is_zero());
    hard.next().map_or(0, |threshold| floor(threshold.floor, all))
}

/// A floor as an amount.
pub fn floor(floor: Floor, all: i64) -> i64 {
    match floor {
        Floor::Amount(amount) => i64::try_from(amount).unwrap_or(i64::MAX),
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "a share of an amount"
        )]
        Floor::Percent(percent) => (all as f64 * percent / 100.0) as i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_or_kept_free_is_not_allocatable_and_nothing_is_negative() {
        let machine = Machine {
            cpu_milli: 2000,
            memory: 1 << 30,
            disk: 1000,
            huge_pages: vec![("hugepages-2Mi".to_owned(), 4 << 20)],
            has_apparmor: false,
            has_cgroup2: false,
        };
        let mut settings = Settings::with_defaults(message::NodeName::new("e").unwrap());
        settings.reserved = BTreeMap::from([("cpu".to_owned(), 300), ("pods".to_owned(), 1000)]);
        let capacity = Capacity::default();
        capacity.offer("example.com/camera", Extended { capacity: 3, allocatable: 2 });
        let amounts = capacity.allocatable(&machine, &settings);
        let expected = [
            ("cpu", 1700),
            ("memory", (1 << 30) - (100 << 20) - (4 << 20)),
            (STORAGE, 900),
            ("pods", 0),
            ("hugepages-2Mi", 4 << 20),
            ("example.com/camera", 2),
        ];
        assert_eq!(amounts, expected.into_iter().map(|(name, amount)| (name.to_owned(), amount)).collect());
        assert_eq!(capacity.total(&machine, &settings)["example.com/camera"], 3);
    }
}
