//! Messages that wait for the broker: bounded in number and bytes, the oldest is lost for the newest.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::{MAX_PACKET, Publish};

/// Messages kept while the broker is away.
const MESSAGES: usize = 4096;
/// Bytes kept while the broker is away.
const BYTES: usize = 8 * MAX_PACKET;

#[derive(Default)]
struct Queue {
    messages: VecDeque<Publish>,
    bytes: usize,
    dropped: u64,
}

#[derive(Default)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
}

impl Outbox {
    fn with<T>(&self, act: impl FnOnce(&mut Queue) -> T) -> T {
        act(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn put(&self, publish: Publish) {
        self.with(|queue| {
            queue.bytes += publish.size();
            queue.messages.push_back(publish);
            while queue.messages.len() > MESSAGES || queue.bytes > BYTES {
                let Some(oldest) = queue.messages.pop_front() else { break };
                queue.bytes -= oldest.size();
                queue.dropped += 1;
            }
        });
        self.filled.notify_one();
    }

    /// Counts a message that cannot be sent at all.
    pub(super) fn refuse(&self) {
        self.with(|queue| queue.dropped += 1);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.with(|queue| queue.dropped)
    }

    /// The oldest message, once there is one. Nothing is lost if this is cancelled.
    pub(super) async fn take(&self) -> Publish {
        loop {
            let oldest = self.with(|queue| {
                let oldest = queue.messages.pop_front()?;
                queue.bytes -= oldest.size();
                Some(oldest)
            });
            match oldest {
                Some(oldest) => return oldest,
                None => self.filled.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QoS;

    #[tokio::test]
    async fn the_oldest_is_lost_for_the_newest() {
        let outbox = Outbox::default();
        for number in 0..MESSAGES + 2 {
            outbox.put(Publish::new("t", number.to_string(), QoS::AtLeastOnce));
        }
        assert_eq!(outbox.dropped(), 2);
        assert_eq!(outbox.take().await.payload, "2");
        for _ in 0..9 {
            outbox.put(Publish::new("t", vec![0; MAX_PACKET - 1], QoS::AtLeastOnce));
        }
        assert!(outbox.with(|queue| queue.bytes <= BYTES && queue.messages.len() == 8));
    }
}
