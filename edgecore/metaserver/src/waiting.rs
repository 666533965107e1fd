//! Writes of the node that wait for the cloud, in memory as they are in the database; `queueing` fills it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{Mutex, watch};

use crate::queue::{Queued, Write};

type Waiting = Arc<Vec<(i64, Write)>>;

/// What is queued, and by whose leave.
pub(crate) struct Queue {
    pub kinds: BTreeSet<Queued>,
    /// Answers to requests for tokens are kept.
    pub keeps_tokens: bool,
    pub told: watch::Sender<Waiting>,
    /// Held by who takes a write or carries one out; how often the first one stumbled.
    pub turn: Mutex<(i64, u32)>,
}

impl Queue {
    pub(crate) fn new(kinds: BTreeSet<Queued>, keeps_tokens: bool) -> Queue {
        Queue { kinds, keeps_tokens, told: watch::Sender::default(), turn: Mutex::default() }
    }

    /// What waits, and its changes.
    pub(crate) fn waiting(&self) -> watch::Receiver<Waiting> {
        self.told.subscribe()
    }
}
