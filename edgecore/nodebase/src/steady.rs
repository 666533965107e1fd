//! Work beside the pods that must not end unnoticed: a task that panics is begun again.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::task::AbortOnDropHandle;

/// First and longest pause before a task that panicked is begun again; between them it doubles.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Runs what `make` gives, and again after a pause whenever it panics. Ends when it ends; dropped, it ends it.
pub fn steady<F, T>(what: &'static str, mut make: F) -> BoxFuture<'static, ()>
where
    F: FnMut() -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    again_and_again(what, Box::new(move || Box::pin(make())))
}

fn again_and_again(
    what: &'static str,
    mut make: Box<dyn FnMut() -> BoxFuture<'static, ()> + Send>,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let mut failures = 0u32;
        while let Err(error) = AbortOnDropHandle::new(daemon::spawn(make())).await {
            if error.is_cancelled() {
                return;
            }
            let pause = daemon::backoff::doubled(PAUSE.0, PAUSE.1, failures);
            failures = failures.saturating_add(1);
            tracing::error!(operation = what, attempt = failures, error = %error, "a task failed, it is begun again");
            tokio::time::sleep(pause).await;
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_begun_again_with_growing_pauses_until_it_ends() {
        let (begun, runs) = (Instant::now(), Arc::new(AtomicU32::new(0)));
        let counted = runs.clone();
        steady("a test", move || {
            let run = counted.fetch_add(1, Ordering::Relaxed);
            async move { assert!(run == 3, "fault {run}") }
        })
        .await;
        assert_eq!(runs.load(Ordering::Relaxed), 4);
        assert_eq!(begun.elapsed().as_secs(), 1 + 2 + 4);
    }
}
