//! Counts equal outcomes until a threshold makes them a result.

/// Results change only after as many equal outcomes in a row as their threshold says.
#[derive(Clone)]
pub(super) struct Tally {
    successes_needed: u32,
    failures_needed: u32,
    last: Option<bool>,
    row: u32,
}

impl Tally {
    pub(super) fn new(successes_needed: u32, failures_needed: u32) -> Tally {
        Tally { successes_needed, failures_needed, last: None, row: 0 }
    }

    /// The result this outcome makes, if its threshold is reached.
    pub(super) fn count(&mut self, good: bool) -> Option<bool> {
        self.row = if self.last == Some(good) { self.row.saturating_add(1) } else { 1 };
        self.last = Some(good);
        let needed = if good { self.successes_needed } else { self.failures_needed };
        (self.row >= needed).then_some(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_row_of_equal_outcomes_makes_a_result() {
        let mut tally = Tally::new(2, 3);
        let outcomes = [true, true, false, false, true, false, false, false, true];
        let results: Vec<Option<bool>> = outcomes.into_iter().map(|good| tally.count(good)).collect();
        let expected = [None, Some(true), None, None, None, None, None, Some(false), None];
        assert_eq!(results, expected);
    }
}
