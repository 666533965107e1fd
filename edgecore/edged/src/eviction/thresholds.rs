//! Which thresholds are crossed, for how long, and what pressure that is. Pure.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::rank::Resource;
use super::readings::Readings;
use nodebase::settings::{Eviction, Threshold};
use podmodel::admission::Pressure;

/// Remembers since when thresholds are crossed, and when each resource was last short.
pub(super) struct Thresholds {
    settings: Eviction,
    /// Index of a threshold -> since when the signal is below it.
    crossed: BTreeMap<usize, Instant>,
    last_short: BTreeMap<Resource, Instant>,
    pressure: Pressure,
}

impl Thresholds {
    pub(super) fn new(settings: Eviction) -> Thresholds {
        let (crossed, last_short) = (BTreeMap::new(), BTreeMap::new());
        Thresholds { settings, crossed, last_short, pressure: Pressure::default() }
    }

    pub(super) fn settings(&self) -> &Eviction {
        &self.settings
    }

    pub(super) fn pressure(&self) -> Pressure {
        self.pressure
    }

    /// The threshold to act on, memory before the rest; none while all is well or in its grace.
    pub(super) fn judge(&mut self, readings: &Readings, now: Instant) -> Option<Threshold> {
        let mut fired: Vec<(Resource, usize)> = Vec::new();
        for (index, threshold) in self.settings.thresholds.iter().enumerate() {
            if !readings.is_below(threshold) {
                self.crossed.remove(&index);
                continue;
            }
            let since = *self.crossed.entry(index).or_insert(now);
            if now.duration_since(since) >= threshold.grace {
                let resource = Resource::of(&threshold.signal);
                self.last_short.insert(resource, now);
                fired.push((resource, index));
            }
        }
        let lasts = |resource: Resource| {
            let last = self.last_short.get(&resource);
            last.is_some_and(|at| *at == now || now.duration_since(*at) < self.settings.transition)
        };
        self.pressure = Pressure {
            memory: lasts(Resource::Memory),
            disk: lasts(Resource::Disk),
            pids: lasts(Resource::Processes),
            read_only: false,
        };
        fired.sort();
        fired.first().map(|(_, index)| self.settings.thresholds[*index].clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nodebase::settings::Floor;
    use std::time::Duration;

    fn threshold(signal: &str, floor: Floor, grace: u64) -> Threshold {
        Threshold { signal: signal.to_owned(), floor, grace: Duration::from_secs(grace) }
    }

    fn readings(list: &[(&str, u64)]) -> Readings {
        Readings(list.iter().map(|(signal, left)| ((*signal).to_owned(), (*left, 1000))).collect())
    }

    #[test]
    fn a_hard_threshold_fires_at_once_a_soft_one_after_its_grace_and_pressure_lasts() {
        let mut thresholds = Thresholds::new(Eviction {
            thresholds: vec![
                threshold("nodefs.available", Floor::Percent(10.0), 0),
                threshold("memory.available", Floor::Amount(100), 0),
                threshold("memory.available", Floor::Amount(200), 30),
            ],
            transition: Duration::from_secs(300),
            max_grace: Duration::ZERO,
        });
        let start = Instant::now();
        let mut judge = |list: &[(&str, u64)], second: u64| {
            let fired = thresholds.judge(&readings(list), start + Duration::from_secs(second));
            (fired.map(|threshold| (threshold.signal, threshold.grace.as_secs())), thresholds.pressure())
        };
        let well = [("memory.available", 500), ("nodefs.available", 500)];
        assert_eq!(judge(&well, 0), (None, Pressure::default()));
        let softly = [("memory.available", 150), ("nodefs.available", 500)];
        assert_eq!(judge(&softly, 10), (None, Pressure::default()));
        let (fired, pressure) = judge(&softly, 40);
        assert_eq!(fired, Some(("memory.available".to_owned(), 30)));
        assert!(pressure.memory && !pressure.disk);
        let badly = [("memory.available", 50), ("nodefs.available", 99)];
        let (fired, pressure) = judge(&badly, 50);
        assert_eq!(fired, Some(("memory.available".to_owned(), 0)), "memory comes first");
        assert!(pressure.memory && pressure.disk);
        assert!(judge(&well, 349).1.memory, "it lasts for the transition period");
        assert_eq!(judge(&well, 351), (None, Pressure::default()));
        // A signal that cannot be read fires nothing.
        assert_eq!(judge(&[], 400), (None, Pressure::default()));
    }
}
