//! Whether EdgeCore's loop over the pods turns.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::answer::{self, Answer};
use super::router::Health;

/// A loop that did not turn for this long hangs (spec/edge-runtime.md 7.1).
const LIMIT: Duration = Duration::from_secs(300);

/// When the loop turned last.
#[derive(Debug)]
pub struct Beat {
    began: Instant,
    /// Milliseconds after `began`.
    last: AtomicU64,
}

impl Default for Beat {
    fn default() -> Beat {
        Beat { began: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl Beat {
    /// The loop turned.
    pub fn turn(&self) {
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

pub fn answer(what: Health, beat: &Beat) -> Answer {
    let age = beat.age();
    match what {
        Health::All | Health::SyncLoop if age > LIMIT => {
            let text = format!("the loop over the pods has not turned for {} s", age.as_secs());
            answer::text(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
        _ => answer::plain("ok"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_hangs_fails_its_check_and_no_other() {
        let beat = Beat::default();
        tokio::time::advance(LIMIT).await;
        assert_eq!(answer(Health::SyncLoop, &beat).status(), StatusCode::OK);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(answer(Health::SyncLoop, &beat).status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer(Health::All, &beat).status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer(Health::Ping, &beat).status(), StatusCode::OK);
        beat.turn();
        assert_eq!(answer(Health::All, &beat).status(), StatusCode::OK);
    }
}
