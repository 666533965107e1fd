//! The time as Edged sees it.

use std::sync::Arc;

use jiff::Timestamp;

/// The wall clock, or a test's.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    pub fn wall() -> Clock {
        Clock(Arc::new(daemon::clock::now))
    }

    /// A clock that moves with tokio's, so that tests can pause it.
    pub fn tokio(start: Timestamp) -> Clock {
        let base = tokio::time::Instant::now();
        Clock::by(move || start + base.elapsed())
    }

    /// A clock that asks `now`.
    pub fn by(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(now))
    }

    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}
