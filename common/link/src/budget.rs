//! Bytes that connections of one process may hold of messages that are not complete or not worked off yet.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a connection may read of one message without asking: ordinary messages never wait for the budget.
const FREE: usize = 64 * 1024;

/// A limit shared by connections. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub fn new(limit: usize) -> Budget {
        Budget { shared: Arc::new(Shared { limit, used: AtomicUsize::new(0) }) }
    }

    pub fn used(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let add = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.shared.limit);
        self.shared.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }
}

/// One connection's share of the budget.
#[derive(Debug)]
pub(crate) struct Meter {
    budget: Budget,
    /// Bytes read since the last message was worked off.
    read: AtomicUsize,
    taken: AtomicUsize,
}

impl Meter {
    pub(crate) fn new(budget: Budget) -> Arc<Meter> {
        Arc::new(Meter { budget, read: AtomicUsize::new(0), taken: AtomicUsize::new(0) })
    }

    /// Counts bytes that are about to be held; false when the process cannot afford them.
    pub(crate) fn count(&self, bytes: usize) -> bool {
        let read = self.read.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let owed = read.saturating_sub(FREE).saturating_sub(self.taken.load(Ordering::Relaxed));
        if owed == 0 {
            return true;
        }
        let granted = self.budget.take(owed);
        if granted {
            self.taken.fetch_add(owed, Ordering::Relaxed);
        }
        granted
    }

    /// The last message is worked off.
    pub(crate) fn reset(&self) {
        self.read.store(0, Ordering::Relaxed);
        let taken = self.taken.swap(0, Ordering::Relaxed);
        self.budget.shared.used.fetch_sub(taken, Ordering::Relaxed);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.reset();
    }
}

/// A byte stream whose reads are counted.
pub(crate) struct Metered<S> {
    stream: S,
    meter: Arc<Meter>,
    /// Bytes read in this turn.
    turn: usize,
}

/// Bytes a connection may read before others have their turn: a large message takes milliseconds to decrypt and copy.
const TURN: usize = 64 * 1024;

impl<S> Metered<S> {
    pub(crate) fn new(stream: S, meter: Arc<Meter>) -> Metered<S> {
        Metered { stream, meter, turn: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.turn >= TURN {
            this.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        this.turn = if polled.is_pending() { 0 } else { this.turn + read };
        if matches!(polled, Poll::Ready(Ok(()))) && !this.meter.count(read) {
            let text = "too many large messages are being received at once";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::OutOfMemory, text)));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_with_much_to_read_lets_others_in_between() {
        use tokio::io::AsyncReadExt;
        let data = vec![1; TURN * 4];
        let mut metered = Metered::new(data.as_slice(), Meter::new(Budget::new(usize::MAX)));
        let others = std::sync::atomic::AtomicU32::new(0);
        let mut read = Vec::new();
        let reading = async {
            let mut part = vec![0; 4096];
            while read.len() < data.len() {
                let count = metered.read(&mut part).await.unwrap();
                read.extend_from_slice(&part[..count]);
            }
        };
        let other = async {
            loop {
                others.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        };
        tokio::select! { biased; _ = reading => {}, () = other => {} }
        assert_eq!(read, data);
        assert!(others.into_inner() >= 3);
    }

    #[test]
    fn small_messages_are_free_and_large_ones_share_the_limit() {
        let budget = Budget::new(100_000);
        let (one, other) = (Meter::new(budget.clone()), Meter::new(budget.clone()));
        assert!(one.count(FREE));
        assert_eq!(budget.used(), 0);
        assert!(one.count(90_000));
        assert!(other.count(FREE));
        assert!(!other.count(20_000));
        one.reset();
        assert!(other.count(1_000));
        drop(other);
        assert_eq!(budget.used(), 0);
    }
}
