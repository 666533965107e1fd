//! The first requests to the API server: it may start later than CloudCore, and refuses everything in its first seconds.

use std::time::Duration;

use daemon::backoff::Backoff;
use message::Status;
use tokio::time::Instant;

/// First and longest wait between attempts.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long it may refuse: its roles are not loaded yet, or were never given.
const REFUSALS: Duration = Duration::from_secs(60);

/// Repeats `attempt` until the API server takes its requests.
///
/// # Errors
/// The attempt's, if another one will not help; also if the API server has refused (401, 403) for a minute.
pub async fn when_served<T>(mut attempt: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
    let (mut told, mut refused_since) = (false, None);
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let status = error.chain().find_map(|cause| cause.downcast_ref::<Status>());
        let again = match status {
            Some(status) if status.is_retryable() => {
                refused_since = None;
                true
            }
            Some(Status { code: 401 | 403, .. }) => {
                refused_since.get_or_insert_with(Instant::now).elapsed() < REFUSALS
            }
            _ => false,
        };
        if !again {
            return Err(error);
        }
        let text = format!("{error:#}");
        match std::mem::replace(&mut told, true) {
            false => tracing::warn!(error = text, "the API server does not serve yet, trying until it does"),
            true => tracing::debug!(error = text, "the API server does not serve yet"),
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    fn status(code: u16) -> anyhow::Result<()> {
        Err::<(), _>(Status::new(code, "", "")).context("installing something")
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_starts_later_and_forbids_at_first_is_waited_for() {
        let began = Instant::now();
        let served = when_served(async || match began.elapsed().as_secs() {
            0..600 => status(503),
            600..605 => status(403),
            605..606 => status(500),
            606..660 => status(401),
            _ => Ok(()),
        });
        served.await.unwrap();
        assert!(began.elapsed() <= Duration::from_secs(662), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_will_not_change_is_an_error() {
        let began = Instant::now();
        assert!(when_served(async || status(404)).await.is_err());
        let other: anyhow::Result<()> = when_served(async || anyhow::bail!("no status")).await;
        assert!(other.is_err());
        assert!(began.elapsed().is_zero());
        let refused = when_served(async || status(403)).await.unwrap_err();
        assert!(format!("{refused:#}").starts_with("installing something: 403"), "{refused:#}");
        assert!(began.elapsed() >= REFUSALS);
    }
}
