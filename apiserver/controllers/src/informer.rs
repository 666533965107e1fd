//! Keeps one store in step with the API: a list, then watches from where it ended; a list again when the past is gone.
//!
//! ```text
//!  Listing -- all taken in --> Watching -- ended, broken --> Watching from where it ended
//!     ^                            '-- 410: the version is forgotten --'
//!     '--------------------------------------------------------------'
//! ```

use std::sync::Arc;
use std::time::Duration;

use apimachinery::Status;
use daemon::backoff::Backoff;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Event};
use crate::cache::{Change, Store};

/// Longest an API server may take for an answer.
const ANSWER: Duration = Duration::from_secs(60);
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);
/// Changes of all informers that wait to be spread; an informer that finds it full waits.
pub(crate) const CHANGES: usize = 256;

/// The code of "gone".
const GONE: u16 = 410;

/// Until `stop`. Every change of the store goes to `changes`, in order.
pub(crate) async fn run(
    api: Arc<dyn Api>,
    store: Arc<Store>,
    changes: mpsc::Sender<Change>,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::new(FIRST, LONGEST);
    let mut must_list = true;
    loop {
        let round = round(api.as_ref(), &store, &changes, must_list);
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            outcome = round => outcome,
        };
        match outcome {
            Ok(()) => {
                must_list = false;
                backoff.reset();
                continue;
            }
            Err(status) if status.code == GONE => must_list = true,
            Err(status) => {
                must_list |= !store.is_synced();
                tracing::debug!(kind = store.kind.resource, error = %status, "watch broke");
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}

/// A list, if one is due, and one watch to its end.
async fn round(
    api: &dyn Api,
    store: &Store,
    changes: &mpsc::Sender<Change>,
    must_list: bool,
) -> Result<(), Status> {
    if must_list {
        let list = within(api.list(store.kind)).await?;
        for change in store.replace(list.items, list.version) {
            send(changes, change).await?;
        }
    }
    let mut events = within(api.watch(store.kind, store.reached())).await?;
    while let Some(event) = events.next().await {
        let change = match event? {
            Event::Applied(value) => store.apply(value),
            Event::Deleted(value) => store.remove(&value),
            Event::Bookmark(version) => {
                store.bookmark(version);
                None
            }
        };
        if let Some(change) = change {
            send(changes, change).await?;
        }
    }
    Ok(())
}

async fn send(changes: &mpsc::Sender<Change>, change: Change) -> Result<(), Status> {
    changes.send(change).await.map_err(|_| Status::unavailable("the controllers have ended"))
}

async fn within<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = || Status::unavailable(format!("no answer within {ANSWER:?}"));
    tokio::time::timeout(ANSWER, answer).await.unwrap_or_else(|_| Err(late()))
}
