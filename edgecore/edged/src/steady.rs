//! Work beside the pods that must not end unnoticed: a task that panics is begun again, a part of Edged that returns
//! before it is told to ends Edged.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::RunError;

/// First and longest pause before a task that panicked is begun again; between them it doubles.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Runs what `make` gives, and again after a pause whenever it panics. Ends when it ends; dropped, it ends it.
pub(crate) async fn steady<F, T>(what: &'static str, mut make: F)
where
    F: FnMut() -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let mut failures = 0u32;
    while let Err(error) = AbortOnDropHandle::new(tokio::spawn(make())).await {
        if error.is_cancelled() {
            return;
        }
        let pause = daemon::backoff::doubled(PAUSE.0, PAUSE.1, failures);
        failures = failures.saturating_add(1);
        tracing::error!(operation = what, attempt = failures, error = %error, "a task failed, it is begun again");
        tokio::time::sleep(pause).await;
    }
}

/// A part that runs as long as Edged: an error if `work` ends before `stop`.
pub(crate) async fn essential(
    what: &'static str,
    work: impl Future<Output = ()>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    work.await;
    if stop.is_cancelled() { Ok(()) } else { Err(RunError::Ended { what }) }
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

    #[tokio::test]
    async fn a_part_that_ends_early_is_named_and_one_that_was_told_to_is_not() {
        let stop = CancellationToken::new();
        let early = essential("probing", std::future::ready(()), &stop).await.unwrap_err();
        assert!(early.to_string().contains("probing"), "{early}");
        stop.cancel();
        assert!(essential("probing", std::future::ready(()), &stop).await.is_ok());
    }
}
