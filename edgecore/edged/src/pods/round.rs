//! One look of a worker at its pod, and what was done.

/// What a round of actions wants next.
#[derive(Default)]
pub(super) struct Round {
    pub acted: bool,
    /// The earliest time something held back may go on.
    pub wake: Option<jiff::Timestamp>,
    pub failed: bool,
}

impl Round {
    pub(super) fn not_before(&mut self, at: jiff::Timestamp) {
        self.wake = Some(self.wake.map_or(at, |known| known.min(at)));
    }
}
