//! Parts that Edged does not go on without.

use tokio_util::sync::CancellationToken;

use super::RunError;

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
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_early_is_named_and_one_that_was_told_to_is_not() {
        let stop = CancellationToken::new();
        let early = essential("probing", std::future::ready(()), &stop).await.unwrap_err();
        assert!(early.to_string().contains("probing"), "{early}");
        stop.cancel();
        assert!(essential("probing", std::future::ready(()), &stop).await.is_ok());
    }
}
