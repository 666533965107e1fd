//! How many requests are under way at once, reads and changes apart (kube-apiserver's `--max-requests-inflight` and
//! `--max-mutating-requests-inflight`, `apiserver/pkg/server/filters/maxinflight.go`; docs/protocol/kubernetes-api.md 4).
//!
//! A request counts until its answer is made; what is sent of it afterwards is bounded by the connections. Not counted are
//! requests that last, health and version, and this program's own. Members of `system:masters` are answered all the same.

use apimachinery::Status;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::attributes::Action;
use crate::user::User;

/// Requests under way at once. 0: any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Gets and lists.
    pub reads: usize,
    /// All others.
    pub changes: usize,
}

impl Default for Limits {
    /// Those of kube-apiserver.
    fn default() -> Limits {
        Limits { reads: 400, changes: 200 }
    }
}

pub(crate) struct InFlight {
    /// `None`: any number.
    reads: Option<Semaphore>,
    changes: Option<Semaphore>,
}

impl InFlight {
    pub(crate) fn new(limits: Limits) -> InFlight {
        let places = |limit: usize| (limit > 0).then(|| Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        InFlight { reads: places(limits.reads), changes: places(limits.changes) }
    }

    /// A place until the answer is made, where one is needed; 429 if there is none.
    pub(crate) fn enter(&self, action: &Action, user: &User) -> Result<Option<SemaphorePermit<'_>>, Status> {
        let places = if action.changes() { &self.changes } else { &self.reads };
        let Some(places) = places.as_ref().filter(|_| !action.lasts()) else { return Ok(None) };
        match places.try_acquire() {
            Ok(place) => Ok(Some(place)),
            Err(_) if user.is_master() => Ok(None),
            Err(_) => {
                let message = "Too many requests, please try again later.";
                let mut status = Status::new(429, "TooManyRequests", message);
                status.retry_after = Some(1);
                Err(status)
            }
        }
    }
}
