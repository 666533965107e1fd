//! One view, as its watchers see it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apimachinery::Status;
use kubeapi::stored::{Event, ListQuery, Replay};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::callers::Callers;
use crate::caller::Caller;
use crate::log::Log;
use crate::scope::Scope;

/// Changes that a watcher may have waiting; one that falls behind reads the log.
const QUEUE: usize = 64;
/// Longest that a client waits for the first list.
const FIRST: Duration = Duration::from_secs(60);

/// Where a view is.
#[derive(Clone)]
pub(super) enum Phase {
    Starting,
    Ready,
    Failed(Status),
}

pub(crate) struct View {
    scope: Scope,
    /// As asked, for choosing from a wider scope.
    query: ListQuery,
    phase: watch::Sender<Phase>,
    inner: Mutex<Inner>,
    /// Its state is the newest, as far as is known.
    is_in_step: AtomicBool,
    ended: CancellationToken,
    /// Its task writes no more.
    done: CancellationToken,
}

struct Inner {
    log: Log,
    events: broadcast::Sender<Arc<Event>>,
    callers: Callers,
    last_watched: Instant,
}

/// A watch of a view; it leaves when this is dropped.
pub(crate) struct Watching {
    view: Arc<View>,
    number: u64,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut inner = self.view.inner();
        inner.callers.leave(self.number);
        inner.last_watched = Instant::now();
    }
}

impl View {
    pub(super) fn new(scope: Scope, query: &ListQuery) -> View {
        let inner = Inner {
            log: Log::new(0),
            events: broadcast::Sender::new(QUEUE),
            callers: Callers::default(),
            last_watched: Instant::now(),
        };
        let query = ListQuery { limit: 0, after: None, at: None, begins_watch: false, ..query.clone() };
        let phase = watch::Sender::new(Phase::Starting);
        let (ended, done) = (CancellationToken::new(), CancellationToken::new());
        let is_in_step = AtomicBool::new(false);
        View { scope, query, phase, inner: Mutex::new(inner), is_in_step, ended, done }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    pub(super) fn query(&self) -> &ListQuery {
        &self.query
    }

    pub(super) fn join(self: &Arc<View>, caller: Caller) -> Watching {
        let number = self.inner().callers.join(caller);
        Watching { view: self.clone(), number }
    }

    /// Waits for a state.
    pub(super) async fn ready(&self) -> Result<(), Status> {
        let mut phase = self.phase.subscribe();
        let known = phase.wait_for(|phase| !matches!(phase, Phase::Starting));
        match tokio::time::timeout(FIRST, known).await {
            Ok(Ok(phase)) => match &*phase {
                Phase::Failed(status) => Err(status.clone()),
                _ => Ok(()),
            },
            _ => Err(Status::new(504, "Timeout", "the API server did not give the list in time")),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Ready)
    }

    /// It follows the cloud now.
    pub(crate) fn is_in_step(&self) -> bool {
        self.is_in_step.load(Ordering::Relaxed)
    }

    pub(super) fn set_in_step(&self, is: bool) {
        self.is_in_step.store(is, Ordering::Relaxed);
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.inner().events.subscribe()
    }

    pub(crate) fn reached(&self) -> i64 {
        self.inner().log.reached()
    }

    pub(crate) fn replay(&self, since: i64) -> Replay {
        self.inner().log.replay(since)
    }

    pub(super) fn is_watched(&self) -> bool {
        !self.inner().callers.is_empty()
    }

    pub(super) fn last_watched(&self) -> Instant {
        self.inner().last_watched
    }

    pub(super) fn caller(&self) -> Option<Caller> {
        self.inner().callers.pick(daemon::clock::unix_seconds())
    }

    pub(super) fn refuse(&self, caller: &Caller) {
        self.inner().callers.refuse(caller);
    }

    /// The view has a new state. Who watched the one before is ended, begins again where he was, and learns that he has
    /// to list.
    pub(super) fn begin_at(&self, revision: i64) {
        let mut inner = self.inner();
        inner.log = Log::new(revision);
        inner.events = broadcast::Sender::new(QUEUE);
        drop(inner);
        self.phase.send_replace(Phase::Ready);
    }

    /// What was committed, in order.
    pub(super) fn publish(&self, events: Vec<Event>) {
        let mut inner = self.inner();
        for event in events {
            let event = Arc::new(event);
            inner.log.push(event.clone());
            // Nobody may be watching.
            let _ = inner.events.send(event);
        }
    }

    pub(super) fn bookmark(&self, revision: i64) {
        self.inner().log.bookmark(revision);
    }

    pub(super) fn fail(&self, status: Status) {
        self.phase.send_replace(Phase::Failed(status));
        self.end();
    }

    /// Ends the view and its watchers' streams.
    pub(super) fn end(&self) {
        self.ended.cancel();
        self.phase.send_if_modified(|phase| {
            let lives = !matches!(phase, Phase::Failed(_));
            if lives {
                let ended = Status::unavailable("the view has ended, ask again");
                *phase = Phase::Failed(Status { retry_after: Some(1), ..ended });
            }
            lives
        });
        self.inner().events = broadcast::Sender::new(1);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    pub(super) fn done(&self) -> &CancellationToken {
        &self.done
    }

    pub(super) fn ending(&self) -> &CancellationToken {
        &self.ended
    }
}
