//! What may be sent, and what may come.

use tokio::sync::Semaphore;

use crate::{CHUNK, FRAME, WINDOW};

/// What the other end still takes of a stream.
#[derive(Debug)]
pub(crate) struct Credit(Semaphore);

impl Credit {
    pub(crate) fn new() -> Credit {
        Credit(Semaphore::new(0))
    }

    /// The other end takes more. False if it is more than it may give.
    #[must_use]
    pub(crate) fn add(&self, more: u64) -> bool {
        let more = usize::try_from(more).unwrap_or(usize::MAX);
        // An end of a later version may have a larger window, within reason.
        if self.0.available_permits().saturating_add(more) > 64 * WINDOW {
            return false;
        }
        self.0.add_permits(more);
        true
    }

    /// Waits until something may be sent: how many bytes at most. Only one task asks.
    pub(crate) async fn room(&self) -> usize {
        // It is never closed.
        if let Ok(permit) = self.0.acquire_many(FRAME as u32 + 1).await {
            drop(permit);
        }
        (self.0.available_permits().saturating_sub(FRAME)).min(CHUNK)
    }

    /// So many bytes are sent in one frame.
    pub(crate) fn take(&self, bytes: usize) {
        self.0.forget_permits(bytes + FRAME);
    }
}

/// What was received and is not worked off.
#[derive(Debug, Default)]
pub(crate) struct Held {
    bytes: usize,
}

/// Cost of a frame of data.
pub(crate) fn cost(data: &[u8]) -> usize {
    data.len() + FRAME
}

impl Held {
    /// A frame came. False if it is more than there was credit for.
    #[must_use]
    pub(crate) fn add(&mut self, data: &[u8]) -> bool {
        self.bytes += cost(data);
        self.bytes <= WINDOW
    }

    /// So much credit is given back.
    pub(crate) fn give_back(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_what_credit_allows_and_frames_have_a_price() {
        let credit = Credit::new();
        assert!(credit.add(FRAME as u64 + 10));
        assert_eq!(credit.room().await, 10);
        credit.take(4);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(5), credit.room()).await.is_err());
        assert!(credit.add(WINDOW as u64));
        assert_eq!(credit.room().await, CHUNK);
        assert!(!credit.add(u64::MAX));
    }

    #[test]
    fn more_than_the_window_is_noticed_also_in_small_frames() {
        let mut held = Held::default();
        let frames = WINDOW / (FRAME + 1);
        assert!((0..frames).all(|_| held.add(b"x")));
        assert!(!held.add(b"x"));
        held.give_back(WINDOW);
        assert!(held.add(b"x"));
    }
}
