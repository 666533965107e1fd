//! Resident memory over time.

/// KiB of one process, one sample after another.
#[derive(Default)]
pub(super) struct Memory {
    samples: Vec<u64>,
}

impl Memory {
    pub(super) fn add(&mut self, kb: u64) {
        self.samples.push(kb);
    }

    pub(super) fn last(&self) -> u64 {
        self.samples.last().copied().unwrap_or_default()
    }

    /// Medians of the second and of the last tenth, so that the start does not count.
    pub(super) fn early_and_late(&self) -> (u64, u64) {
        let tenth = (self.samples.len() / 10).max(1);
        let early = self.samples.get(tenth..2 * tenth).unwrap_or(&self.samples);
        let late = &self.samples[self.samples.len().saturating_sub(tenth)..];
        (median(early), median(late))
    }
}

fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_does_not_count() {
        let mut memory = Memory::default();
        (0..100).for_each(|number| memory.add(if number < 10 { 1 } else { 1000 + number }));
        assert_eq!(memory.early_and_late(), (1015, 1095));
    }
}
