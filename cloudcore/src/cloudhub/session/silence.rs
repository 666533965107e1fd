//! When a session ends because its node says nothing. The clock stands while the node is not read: what it said may be
//! waiting in the connection.

use std::time::Duration;

use tokio::time::Instant;

pub(super) struct Silence {
    ends: Instant,
    reading: bool,
}

impl Silence {
    pub(super) fn new(ends: Instant) -> Silence {
        Silence { ends, reading: true }
    }

    /// A sign of life.
    pub(super) fn spoke(&mut self, patience: Duration) {
        self.ends = Instant::now() + patience;
    }

    /// Whether the node is read from now on. One that is read again has all its time before it.
    pub(super) fn reading(&mut self, reading: bool, patience: Duration) {
        if reading && !self.reading {
            self.spoke(patience);
        }
        self.reading = reading;
    }

    /// When the session ends; `None` while the node is not read.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.reading.then_some(self.ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_not_read_is_not_silent() {
        let patience = Duration::from_secs(30);
        let mut silence = Silence::new(Instant::now() + patience);
        silence.reading(false, patience);
        tokio::time::advance(patience * 10).await;
        assert_eq!(silence.ends(), None);
        silence.reading(true, patience);
        assert_eq!(silence.ends(), Some(Instant::now() + patience));
        tokio::time::advance(patience / 2).await;
        silence.reading(true, patience);
        assert_eq!(silence.ends(), Some(Instant::now() + patience / 2));
    }
}
