//! All streams of one session.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use native::frames::StreamFrame;
use native::frames::stream_frame::What;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::credit::{Credit, Held};
use crate::relay::{self, Arrived, FromRelay, Relay};
use crate::{CHUNK, FRAME, STREAMS, WINDOW};

/// Frames that wait to be written: streams take turns behind them.
const WAITING: usize = 2;

/// The other end broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("more data of a stream than there was credit for")]
    Flood,
    #[error("more credit for a stream than there may be")]
    Credit,
    #[error("a stream that was opened already")]
    Twice,
    #[error("a stream opened by the edge")]
    WrongWay,
    #[error("a frame of a stream without content")]
    Empty,
    #[error("more of a stream that its sender had ended")]
    AfterEnd,
}

/// How far the other end is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    More,
    End,
    Reset,
}

/// One stream as its session sees it.
struct Entry {
    arrived: mpsc::Sender<Arrived>,
    /// What came and is not worked off: no more than there was credit for.
    held: Held,
    given_back: Arc<AtomicUsize>,
    credit: Arc<Credit>,
    said: Said,
    over: CancellationToken,
}

impl Entry {
    /// The other end goes one step further, each at most once: nobody counts what ends a stream.
    fn end(&mut self, now: Said, arrived: Arrived) -> Result<(), Violation> {
        if self.said >= now {
            return Err(Violation::AfterEnd);
        }
        self.said = now;
        // A relay that is over takes nothing.
        let _ = self.arrived.try_send(arrived);
        Ok(())
    }

    fn take(&mut self, data: Vec<u8>, as_what: fn(Vec<u8>) -> Arrived) -> Result<(), Violation> {
        if self.said != Said::More {
            return Err(Violation::AfterEnd);
        }
        self.held.give_back(self.given_back.swap(0, Ordering::Relaxed));
        if !self.held.add(&data) {
            return Err(Violation::Flood);
        }
        // A relay that is over takes nothing.
        let _ = self.arrived.try_send(as_what(data));
        Ok(())
    }
}

/// The streams of a session. Dropped with it, which ends them.
#[derive(Default)]
pub struct Mux {
    streams: HashMap<u64, Entry>,
    last: u64,
    /// Made with the first stream: most sessions have none.
    relays: Option<Relays>,
}

struct Relays {
    tell: mpsc::Sender<FromRelay>,
    told: mpsc::Receiver<FromRelay>,
    over: CancellationToken,
}

impl Relays {
    fn new() -> Relays {
        let (tell, told) = mpsc::channel(WAITING);
        Relays { tell, told, over: CancellationToken::new() }
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

impl Mux {
    /// Streams that are open.
    pub fn count(&self) -> usize {
        self.streams.len()
    }

    /// The cloud opens a stream: its end, and the frame that tells the edge. `None` if there are too many.
    pub fn open(&mut self) -> Option<(DuplexStream, StreamFrame)> {
        if self.streams.len() >= STREAMS {
            return None;
        }
        self.last += 1;
        let id = self.last;
        let (near, far) = tokio::io::duplex(CHUNK);
        let relay = self.enter(id, 0);
        tokio::spawn(relay.run(async { Ok(far) }));
        Some((near, StreamFrame { id, what: Some(What::Open(WINDOW as u64)) }))
    }

    fn enter(&mut self, id: u64, credit: u64) -> Relay {
        // As many as the cheapest frames there is credit for, and what ends them.
        let (arrived, inbox) = mpsc::channel(WINDOW / FRAME + 2);
        let relays = self.relays.get_or_insert_with(Relays::new);
        let entry = Entry {
            arrived,
            held: Held::default(),
            given_back: Arc::default(),
            credit: Arc::new(Credit::new()),
            said: Said::More,
            over: relays.over.child_token(),
        };
        // Checked by who calls.
        let _ = entry.credit.add(credit);
        let relay = Relay {
            id,
            inbox,
            frames: relays.tell.clone(),
            credit: entry.credit.clone(),
            given_back: entry.given_back.clone(),
            over: entry.over.clone(),
        };
        self.streams.insert(id, entry);
        relay
    }

    /// The edge takes in a frame; a new stream is connected by `connect`. The result is a frame to answer with.
    ///
    /// # Errors
    /// [`Violation`]: the cloud broke the protocol.
    pub fn take_in_and_connect<C, S, F>(
        &mut self,
        frame: StreamFrame,
        connect: C,
    ) -> Result<Option<StreamFrame>, Violation>
    where
        C: FnOnce() -> F,
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let Some(What::Open(credit)) = frame.what else {
            return self.take_in(frame).map(|()| None);
        };
        let id = frame.id;
        if self.streams.contains_key(&id) {
            return Err(Violation::Twice);
        }
        if self.streams.len() >= STREAMS {
            return Ok(Some(relay::reset(id, "too many streams are open on this node")));
        }
        if !Credit::new().add(credit) {
            return Err(Violation::Credit);
        }
        tokio::spawn(self.enter(id, credit).run(connect()));
        Ok(Some(relay::credit_frame(id, WINDOW)))
    }

    /// Takes in a frame of a stream that is open. What belongs to one that is not is dropped: it may have ended here first.
    ///
    /// # Errors
    /// [`Violation`]: the other end broke the protocol.
    pub fn take_in(&mut self, frame: StreamFrame) -> Result<(), Violation> {
        let what = frame.what.ok_or(Violation::Empty)?;
        if matches!(what, What::Open(_)) {
            return Err(Violation::WrongWay);
        }
        let Some(entry) = self.streams.get_mut(&frame.id) else { return Ok(()) };
        match what {
            What::Open(_) => {}
            What::Data(data) => entry.take(data, Arrived::Data)?,
            What::Packed(data) => entry.take(data, Arrived::Packed)?,
            What::Credit(more) => {
                if !entry.credit.add(more) {
                    return Err(Violation::Credit);
                }
            }
            What::End(_) => entry.end(Said::End, Arrived::End)?,
            // Behind what came before, which is still for its reader.
            What::Reset(_) => entry.end(Said::Reset, Arrived::Reset)?,
        }
        Ok(())
    }

    /// The next frame of the streams, each in its turn; waits for ever while they say nothing. Cancel safe.
    pub async fn next(&mut self) -> StreamFrame {
        loop {
            let told = match &mut self.relays {
                Some(relays) => relays.told.recv().await,
                None => std::future::pending().await,
            };
            match told {
                Some(FromRelay::Frame(frame)) => return frame,
                Some(FromRelay::Over(id)) => {
                    self.streams.remove(&id);
                }
                // This end holds a sender.
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
