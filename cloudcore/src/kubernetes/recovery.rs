//! When the API server is back: what waits for it need not wait for its own next attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use message::Status;
use tokio::sync::watch;

/// Notices the first success after failures.
#[derive(Clone)]
pub(super) struct Reach {
    failing: Arc<AtomicBool>,
    recovered: Arc<watch::Sender<()>>,
}

impl Default for Reach {
    fn default() -> Reach {
        Reach { failing: Arc::default(), recovered: Arc::new(watch::channel(()).0) }
    }
}

impl Reach {
    pub(super) fn note<T>(&self, result: &Result<T, Status>) {
        match result {
            Err(status) if status.is_retryable() => self.failed(),
            _ => self.answered(),
        }
    }

    pub(super) fn failed(&self) {
        self.failing.store(true, Ordering::Relaxed);
    }

    pub(super) fn answered(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            self.recovered.send_replace(());
        }
    }

    pub(super) fn next(&self) -> Recovery {
        Recovery { recovered: self.recovered.subscribe() }
    }
}

/// The next time that the API server is back.
pub struct Recovery {
    recovered: watch::Receiver<()>,
}

impl Recovery {
    /// Ends at a random moment within `spread` after the API server is back.
    pub async fn after(mut self, spread: Duration) {
        if self.recovered.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(spread.mul_f64(rand::random())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_first_success_after_a_failure_wakes_who_waits() {
        let reach = Reach::default();
        let failed = Err::<(), _>(Status::new(503, "ServiceUnavailable", "away"));
        let waiting = tokio::spawn(reach.next().after(Duration::from_secs(1)));
        reach.note(&Ok(()));
        reach.note(&failed);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!waiting.is_finished());
        let not_found = Err::<(), _>(Status::new(404, "NotFound", "answered all the same"));
        reach.note(&not_found);
        let began = tokio::time::Instant::now();
        waiting.await.unwrap();
        assert!(began.elapsed() <= Duration::from_secs(1));
    }
}
