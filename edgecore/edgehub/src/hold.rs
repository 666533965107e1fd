//! Bytes received and not committed yet. A session that holds too many reads no further until some are on disk: the
//! number of messages alone says nothing about memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes held at which nothing more is read: twice what the cloud sends unacknowledged.
const LIMIT: usize = 2 * 1024 * 1024;
/// Bytes per permit.
const UNIT: usize = 1024;

/// One session's account. Clones share it.
#[derive(Clone)]
pub(super) struct Hold {
    free: Arc<Semaphore>,
}

/// Counted until dropped.
pub(super) struct Held {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Hold {
    pub(crate) fn new() -> Hold {
        Hold { free: Arc::new(Semaphore::new(LIMIT / UNIT)) }
    }

    /// Counts a message. Never waits: the one that goes over the limit is there already.
    pub(crate) fn take(&self, bytes: usize) -> Held {
        let wanted = bytes.div_ceil(UNIT).min(self.free.available_permits());
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        Held { _permit: self.free.clone().try_acquire_many_owned(wanted).ok() }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// Waits until something was committed.
    pub(crate) async fn room(&self) {
        // Never closed.
        let _ = self.free.acquire().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_held_makes_it_full_and_what_is_dropped_makes_room() {
        let hold = Hold::new();
        let small = hold.take(1);
        assert!(!hold.is_full());
        let large = hold.take(8 * LIMIT);
        assert!(hold.is_full());
        let over = hold.take(100);
        drop(over);
        assert!(hold.is_full());
        drop(small);
        hold.room().await;
        assert!(!hold.is_full());
        drop(large);
        assert_eq!(hold.free.available_permits(), LIMIT / UNIT);
    }
}
