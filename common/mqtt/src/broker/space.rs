//! How much of what clients publish may wait for this process to deal with it. Who confirms (QoS 1 and 2) waits for
//! space, so that a flood stays in the kernel's buffers; a message of QoS 0 for which there is none is lost.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Publish;

/// What a message counts for at least, in bytes: it also costs what holds it.
const LEAST: usize = 4 * 1024;
/// Of one client, in bytes: 256 small messages under way.
const CLIENT: usize = 1024 * 1024;
/// Of all clients together, in bytes.
const CONFIRMED: usize = 4 * CLIENT;
/// Messages of QoS 0, in bytes.
const UNCONFIRMED: usize = 2 * CLIENT;

/// Messages that can have space at once.
pub(super) const MESSAGES: usize = (CONFIRMED + UNCONFIRMED) / LEAST;
/// Messages of one client that can have space at once.
pub(super) const CLIENT_MESSAGES: usize = CLIENT / LEAST;

#[derive(Clone)]
pub(super) struct Space {
    confirmed: Arc<Semaphore>,
    unconfirmed: Arc<Semaphore>,
}

/// One client's part.
pub(super) struct Share {
    client: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

impl Space {
    pub(super) fn new() -> Space {
        Space {
            confirmed: Arc::new(Semaphore::new(CONFIRMED)),
            unconfirmed: Arc::new(Semaphore::new(UNCONFIRMED)),
        }
    }

    pub(super) fn share(&self) -> Share {
        Share { client: Arc::new(Semaphore::new(CLIENT)), all: self.confirmed.clone() }
    }

    /// For a message that is not confirmed; `None` if there is no space now.
    pub(super) fn try_take(&self, publish: &Publish) -> Option<OwnedSemaphorePermit> {
        self.unconfirmed.clone().try_acquire_many_owned(cost(publish)).ok()
    }
}

impl Share {
    /// Waits until the client and all clients together have space for the message.
    pub(super) async fn take(&self, publish: &Publish) -> Vec<OwnedSemaphorePermit> {
        let cost = cost(publish);
        let own = self.client.clone().acquire_many_owned(cost).await;
        let of_all = self.all.clone().acquire_many_owned(cost).await;
        own.into_iter().chain(of_all).collect()
    }
}

fn cost(publish: &Publish) -> u32 {
    publish.size().clamp(LEAST, CLIENT) as u32
}
