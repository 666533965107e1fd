//! What a start does about rows that lie on the disk otherwise than they should.
//!
//! Nothing of it stops EdgeCore: pods go on with what can be read.

use std::path::Path;

use daemon::errors::describe;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Objects;

/// Seals what is stored in plain text, if there is a key, and says what does not open. To be done before anything else uses the
/// database. Returns whether there are rows that do not open.
pub async fn begin(objects: &Objects, key_file: Option<&Path>) -> bool {
    match objects.seal_stored().await {
        Ok(0) => {}
        // A disk that takes no writes, and nothing to be sealed on it.
        Err(error) if key_file.is_none() => {
            tracing::debug!(error = describe(&error), "no note made of a start without a key")
        }
        Ok(rows) => tracing::info!(rows, "secrets and tokens that were stored in plain text are sealed"),
        Err(error) => {
            let error = describe(&error);
            tracing::warn!(
                error,
                "secrets and tokens in the database may be in plain text still: the next start tries again to seal them"
            );
        }
    }
    let rows = objects.shut().await.unwrap_or_else(|error| {
        tracing::warn!(error = describe(&error), "sealed secrets and tokens could not be read");
        0
    });
    match key_file {
        _ if rows == 0 => {}
        Some(file) => {
            tracing::warn!(rows, file = %file.display(), "secrets and tokens in the database were sealed with another key than that of database.secretsKeyFile, or are damaged, and are not used: the cloud sends them again; without it, put the key back");
        }
        None => {
            tracing::warn!(
                rows,
                "secrets and tokens in the database are sealed and database.secretsKeyFile names no key, so they are not used: the cloud sends them again; without it, name the file of the key"
            );
        }
    }
    rows > 0
}

/// Removes what does not open once the cloud has said that the node has all it should have: what is needed was sent again.
/// Ends with the program.
pub async fn forget(objects: Objects, mut in_step: watch::Receiver<bool>, stop: CancellationToken) {
    let told = tokio::select! {
        biased;
        _ = stop.cancelled() => return,
        told = in_step.wait_for(|told| *told) => told.is_ok(),
    };
    if told {
        match objects.drop_shut().await {
            Ok(rows) => {
                tracing::info!(
                    rows,
                    "secrets and tokens that do not open were removed: the cloud has sent those that are needed"
                )
            }
            Err(error) => {
                tracing::warn!(
                    error = describe(&error),
                    "secrets and tokens that do not open stay until the next start"
                )
            }
        }
    }
    stop.cancelled().await;
}
