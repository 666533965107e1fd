//! The connections of one tunnel: what came for each waits in a queue of its own, what they say leaves in turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{CHUNK, CONNECTIONS, Frame, Kind, QUEUE};

/// What a message costs beside its data, so that empty ones are bounded as well.
const MESSAGE: usize = 64;

/// Messages that wait to be written: connections take turns behind them.
const WAITING: usize = 2;

/// Said by a connection's task.
enum Said {
    Frame(Frame),
    /// The task ended.
    Over(u64),
}

struct Entry {
    queue: mpsc::Sender<Bytes>,
    /// Bytes in it, and what its messages cost.
    waiting: Arc<AtomicUsize>,
    over: CancellationToken,
}

/// All connections. Dropped, it ends them.
pub(crate) struct Lanes {
    entries: HashMap<u64, Entry>,
    say: mpsc::Sender<Said>,
    said: mpsc::Receiver<Said>,
    over: CancellationToken,
}

/// One connection's end inside its task.
pub(crate) struct Lane {
    pub id: u64,
    queue: mpsc::Receiver<Bytes>,
    waiting: Arc<AtomicUsize>,
    say: mpsc::Sender<Said>,
}

/// The tunnel is over.
pub(crate) struct Gone;

impl Default for Lanes {
    fn default() -> Lanes {
        let (say, said) = mpsc::channel(WAITING);
        Lanes { entries: HashMap::new(), say, said, over: CancellationToken::new() }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

impl Lanes {
    pub(crate) fn count(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn has(&self, id: u64) -> bool {
        self.entries.contains_key(&id)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= CONNECTIONS
    }

    /// Runs `task` for a connection until it ends or the other end removes it; either way the other end hears that it is over.
    pub(crate) fn begin<F>(&mut self, id: u64, task: impl FnOnce(Lane) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // As many as the cheapest messages that may wait.
        let (queue, inbox) = mpsc::channel(QUEUE / MESSAGE + 1);
        let (waiting, over) = (Arc::<AtomicUsize>::default(), self.over.child_token());
        let lane = Lane { id, queue: inbox, waiting: waiting.clone(), say: self.say.clone() };
        self.entries.insert(id, Entry { queue, waiting, over: over.clone() });
        let (work, say) = (task(lane), self.say.clone());
        daemon::spawn(async move {
            tokio::select! {
                biased;
                _ = over.cancelled() => return,
                () = work => {}
            }
            // The tunnel may be over.
            let _ = say.send(Said::Frame(Frame::new(id, Kind::Remove, Bytes::new()))).await;
            let _ = say.send(Said::Over(id)).await;
        });
    }

    /// Data for a connection. The result is a frame that tells the other end that it lost it: nobody reads here.
    pub(crate) fn data(&mut self, id: u64, data: Bytes) -> Option<Frame> {
        let entry = self.entries.get(&id)?;
        let waiting = entry.waiting.fetch_add(cost(&data), Ordering::Relaxed) + cost(&data);
        if waiting > QUEUE {
            tracing::debug!(connection = id, "a connection of the tunnel nobody reads was dropped");
            self.remove(id);
            return Some(Frame::new(id, Kind::Remove, Bytes::new()));
        }
        // A task that is over reads nothing.
        let _ = entry.queue.try_send(data);
        None
    }

    /// The other end is done: what came is still worked off.
    pub(crate) fn finish(&mut self, id: u64) {
        // Without its sender, the queue ends behind what is in it.
        self.entries.remove(&id);
    }

    fn remove(&mut self, id: u64) {
        if let Some(entry) = self.entries.remove(&id) {
            entry.over.cancel();
        }
    }

    /// The next message of the connections; waits for ever while they say nothing. Cancel safe.
    pub(crate) async fn next(&mut self) -> Frame {
        loop {
            match self.said.recv().await {
                Some(Said::Frame(frame)) => return frame,
                Some(Said::Over(id)) => drop(self.entries.remove(&id)),
                // This end holds a sender.
                None => std::future::pending().await,
            }
        }
    }
}

fn cost(data: &Bytes) -> usize {
    data.len() + MESSAGE
}

impl Lane {
    pub(crate) async fn say(&self, kind: Kind, data: impl Into<Bytes>) -> Result<(), Gone> {
        self.say.send(Said::Frame(Frame::new(self.id, kind, data))).await.map_err(|_| Gone)
    }

    /// What came; `None` at its end.
    pub(crate) async fn heard(&mut self) -> Option<Bytes> {
        let data = self.queue.recv().await?;
        self.waiting.fetch_sub(cost(&data), Ordering::Relaxed);
        Some(data)
    }

    /// Carries bytes both ways until the stream ends or fails, or the other end is done.
    pub(crate) async fn carry(mut self, stream: impl AsyncRead + AsyncWrite) {
        let (from, to) = tokio::io::split(stream);
        let (id, say) = (self.id, self.say.clone());
        let out = send(id, from, &say);
        let back = self.receive(to);
        tokio::pin!(out, back);
        // The protocol cannot say that one way has ended: the first end is that of both.
        tokio::select! {
            () = &mut out => {}
            () = &mut back => {}
        }
    }

    async fn receive(&mut self, mut to: impl AsyncWrite + Unpin) {
        while let Some(data) = self.heard().await {
            if to.write_all(&data).await.is_err() || to.flush().await.is_err() {
                return;
            }
        }
        // The reader may be gone.
        let _ = to.shutdown().await;
    }
}

async fn send(id: u64, mut from: impl AsyncRead + Unpin, say: &mpsc::Sender<Said>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..count) else { return };
        let frame = Frame::new(id, Kind::Data, Bytes::copy_from_slice(bytes));
        if say.send(Said::Frame(frame)).await.is_err() {
            return;
        }
    }
}
