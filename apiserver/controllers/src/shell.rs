//! What drives controllers: informers fill the cache and spread its changes as keys, one worker for each controller takes them.
//!
//! ```text
//!  informer (one per kind) --> cache, changes --> spreader --> queue of each controller --> its worker --> API
//! ```
//! Nothing runs by a timer unless a controller asks to see a key again later.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::Status;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Key, Kind};
use crate::cache::{Cache, Change};
use crate::client::Client;
use crate::informer;
use crate::queue::Queue;

/// Longest one key may take.
const ROUND: Duration = Duration::from_secs(300);
/// Failures of one key that are nobody's business: writes that lose a race.
const QUIET: u32 = 5;

/// What a controller says of a key that it has dealt with: when to see it again though nothing changed.
pub type Again = Option<Duration>;

/// Keeps one kind of object as it says it should be.
pub trait Controller: Send + Sync + 'static {
    /// As in `--controllers`.
    fn name(&self) -> &'static str;

    /// The user that it is.
    fn user(&self) -> &'static str;

    /// All kinds that it reads from the cache.
    fn reads(&self) -> Vec<Kind>;

    /// The keys that a change concerns.
    fn touched(&self, cache: &Cache, change: &Change) -> Vec<Key>;

    /// Does what is to be done for a key. After a failure the key comes back.
    fn reconcile<'a>(&'a self, work: &'a Work, key: &'a Key) -> BoxFuture<'a, Result<Again, Status>>;
}

/// What a controller works with.
pub struct Work {
    pub client: Client,
    pub cache: Arc<Cache>,
    pub now: fn() -> Timestamp,
}

/// Who opens the API as a user.
pub trait Users: Send + Sync {
    fn api(&self, user: &str) -> Arc<dyn Api>;
}

/// The user that informers read as.
pub const READER: &str = "system:kube-controller-manager";

struct Running {
    controller: Box<dyn Controller>,
    queue: Queue<Key>,
    work: Work,
}

/// Runs controllers until `stop`.
pub async fn run(controllers: Vec<Box<dyn Controller>>, users: Arc<dyn Users>, stop: CancellationToken) {
    let cache = Arc::new(Cache::of(controllers.iter().flat_map(|controller| controller.reads())));
    let running: Arc<Vec<Running>> = Arc::new(
        controllers
            .into_iter()
            .map(|controller| {
                let client = Client::new(users.api(controller.user()), cache.clone(), controller.name());
                let work = Work { client, cache: cache.clone(), now: daemon::clock::now };
                Running { controller, queue: Queue::default(), work }
            })
            .collect(),
    );
    let (sender, receiver) = mpsc::channel(informer::CHANGES);
    let mut tasks = JoinSet::new();
    let reader = users.api(READER);
    for store in cache.stores() {
        tasks.spawn(informer::run(reader.clone(), store.clone(), sender.clone(), stop.clone()));
    }
    drop(sender);
    tasks.spawn(spread(receiver, cache.clone(), running.clone()));
    for at in 0..running.len() {
        let (running, stop) = (running.clone(), stop.clone());
        tasks.spawn(async move { work(&running[at], &stop).await });
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

async fn spread(mut changes: mpsc::Receiver<Change>, cache: Arc<Cache>, running: Arc<Vec<Running>>) {
    while let Some(change) = changes.recv().await {
        for one in running.iter() {
            for key in one.controller.touched(&cache, &change) {
                one.queue.add(key);
            }
        }
    }
}

async fn work(running: &Running, stop: &CancellationToken) {
    let Running { controller, queue, work } = running;
    let rounds = async {
        synced(controller.as_ref(), &work.cache).await;
        loop {
            let key = queue.next().await;
            work.client.settle().await;
            let outcome = tokio::time::timeout(ROUND, controller.reconcile(work, &key)).await;
            let outcome = outcome.unwrap_or_else(|_| Err(Status::unavailable("it took too long")));
            take(controller.name(), queue, key, outcome);
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = rounds => {}
    }
}

fn take(controller: &'static str, queue: &Queue<Key>, key: Key, outcome: Result<Again, Status>) {
    match outcome {
        Ok(again) => {
            queue.succeeded(&key);
            if let Some(wait) = again {
                queue.add_after(key, wait);
            }
        }
        Err(status) => {
            let failures = queue.failed(key.clone());
            let Key { namespace, name } = key;
            match failures > QUIET || !(status.is_conflict() || status.is_not_found()) {
                true => {
                    tracing::warn!(controller, namespace, name, failures, error = %status, "a controller could not do its work; it tries again")
                }
                false => {
                    tracing::debug!(controller, namespace, name, failures, error = %status, "lost a race")
                }
            }
        }
    }
}

/// Waits until everything that the controller reads was listed.
async fn synced(controller: &dyn Controller, cache: &Cache) {
    for kind in controller.reads() {
        let store = cache.store(kind);
        let mut progress = store.progress();
        while !store.is_synced() {
            if progress.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
