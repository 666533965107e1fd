//! How often something may happen: so much at once after a rest, and then as much as is paid off with time (the generic cell rate
//! algorithm). What was taken is one instant, the one at which all of it is paid. Pure.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// What may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    units: u64,
    per: Duration,
    burst: u64,
}

impl Rate {
    /// `units` in each `per`, and `burst` at once after a rest.
    pub const fn new(units: u64, per: Duration, burst: u64) -> Rate {
        Rate { units: if units == 0 { 1 } else { units }, per, burst }
    }

    /// `units` a second, and `burst` at once after a rest.
    pub const fn per_second(units: u64, burst: u64) -> Rate {
        Rate::new(units, Duration::from_secs(1), burst)
    }

    /// The time in which so many are paid off.
    pub fn time(&self, units: u64) -> Duration {
        let nanos = self.per.as_nanos() * u128::from(units) / u128::from(self.units);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// What may be owed without waiting.
    pub fn burst(&self) -> Duration {
        self.time(self.burst)
    }
}

/// What was taken and is not paid off yet; the default owes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Debt {
    /// When all is paid.
    paid: Option<Instant>,
}

impl Debt {
    fn paid(&self, now: Instant) -> Instant {
        self.paid.map_or(now, |paid| paid.max(now))
    }

    /// True if nothing is owed.
    pub fn is_paid(&self, now: Instant) -> bool {
        self.paid.is_none_or(|paid| paid <= now)
    }

    /// Takes `units`, if they may be taken now.
    ///
    /// # Errors
    /// They may be taken after this time; nothing was taken.
    pub fn take(&mut self, rate: &Rate, units: u64, now: Instant) -> Result<(), Duration> {
        let paid = self.paid(now) + rate.time(units);
        let wait = (paid - now).saturating_sub(rate.burst());
        if wait.is_zero() {
            self.paid = Some(paid);
            return Ok(());
        }
        Err(wait)
    }

    /// Takes `units` whatever is owed already. Returns how long to wait before the next are taken.
    pub fn owe(&mut self, rate: &Rate, units: u64, now: Instant) -> Duration {
        self.paid = Some(self.paid(now) + rate.time(units));
        self.wait(rate, now)
    }

    /// The same, but nobody has to wait longer than `longest`: what is owed beyond is forgiven.
    pub fn owe_at_most(&mut self, rate: &Rate, units: u64, longest: Duration, now: Instant) -> Duration {
        let paid = self.paid(now) + rate.time(units);
        self.paid = Some(paid.min(now + rate.burst() + longest));
        self.wait(rate, now)
    }

    /// How long to wait before anything is taken.
    pub fn wait(&self, rate: &Rate, now: Instant) -> Duration {
        (self.paid(now) - now).saturating_sub(rate.burst())
    }
}

/// Debts kept without looking whether they are paid.
const FEWEST: usize = 1024;

/// Debts by who owes them. Those that are paid are dropped, as they are worth as much as none: there are at most twice as many as
/// there were unpaid ones at the last look, or 1,024.
#[derive(Debug)]
pub struct Debts<K> {
    debts: HashMap<K, Debt>,
    /// At how many entries the paid ones are dropped.
    full: usize,
}

impl<K> Default for Debts<K> {
    fn default() -> Debts<K> {
        Debts { debts: HashMap::new(), full: 0 }
    }
}

impl<K: Clone + Eq + Hash> Debts<K> {
    /// What `key` owes, to be changed.
    pub fn of(&mut self, key: &K, now: Instant) -> &mut Debt {
        if !self.debts.contains_key(key) {
            self.make_room(now);
        }
        self.debts.entry(key.clone()).or_default()
    }

    /// What `key` owes, if it ever took anything that is not forgotten.
    pub fn get(&self, key: &K) -> Option<&Debt> {
        self.debts.get(key)
    }

    /// Those kept, paid or not.
    pub fn len(&self) -> usize {
        self.debts.len()
    }

    /// True if none is kept.
    pub fn is_empty(&self) -> bool {
        self.debts.is_empty()
    }

    /// Looks each time the table has grown to twice what the last look left in it, so that no entry pays for more than one look at
    /// another.
    fn make_room(&mut self, now: Instant) {
        if self.debts.len() < self.full.max(FEWEST) {
            return;
        }
        self.debts.retain(|_, debt| !debt.is_paid(now));
        self.full = self.debts.len() * 2;
        self.debts.shrink_to(self.full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_as_much_as_is_paid_off() {
        let (rate, now, mut debt) = (Rate::per_second(10, 3), Instant::now(), Debt::default());
        assert!((0..3).all(|_| debt.take(&rate, 1, now).is_ok()));
        assert_eq!(debt.take(&rate, 1, now), Err(Duration::from_millis(100)));
        assert_eq!(debt.take(&rate, 2, now), Err(Duration::from_millis(200)), "the refused one took nothing");
        assert!(debt.take(&rate, 1, now + Duration::from_millis(100)).is_ok());
        assert!(!debt.is_paid(now) && debt.is_paid(now + Duration::from_secs(1)));
    }

    #[test]
    fn whoever_takes_all_the_same_waits_the_longer() {
        let (rate, now) = (Rate::new(1, Duration::from_secs(2), 2), Instant::now());
        let mut debt = Debt::default();
        assert_eq!([2, 1, 3].map(|units| debt.owe(&rate, units, now).as_secs()), [0, 2, 8]);
        assert_eq!(debt.owe_at_most(&rate, 1000, Duration::from_secs(60), now), Duration::from_secs(60));
        assert_eq!(debt.wait(&rate, now + Duration::from_secs(59)), Duration::from_secs(1));
        let forgiven = now + Duration::from_secs(60) + rate.burst();
        assert!(debt.is_paid(forgiven) && debt.take(&rate, 2, forgiven).is_ok());
    }

    #[test]
    fn no_amount_overflows() {
        let (rate, now, mut debt) =
            (Rate::new(0, Duration::from_secs(1), 1), Instant::now(), Debt::default());
        assert!(debt.take(&rate, u64::MAX, now).is_err());
        assert_eq!(rate.time(u64::MAX), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn those_that_came_once_are_not_kept_and_what_is_owed_stays() {
        let (rate, start) = (Rate::per_second(16, 100), Instant::now());
        let mut debts = Debts::<u64>::default();
        debts.of(&u64::MAX, start).owe(&rate, 10_000, start);
        for number in 0..100_000 {
            let now = start + Duration::from_micros(number * 300);
            debts.of(&number, now).owe(&rate, 1, now);
        }
        assert!(debts.len() <= FEWEST, "{}", debts.len());
        assert!(debts.get(&u64::MAX).is_some() && debts.get(&1).is_none());
    }
}
