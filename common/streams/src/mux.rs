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
use crate::{CHUNK, FRAME, STREAMS, STREAMS_OF_EDGE, WINDOW};

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
    #[error("a stream opened where only the other end opens streams")]
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

/// The end of a session that a [`Mux`] is at, by which ids of streams are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    #[default]
    Cloud,
    Edge,
}

/// Set in the ids of streams that an edge opens.
const OF_EDGE: u64 = 1 << 63;

impl End {
    fn opened(self, id: u64) -> bool {
        (id & OF_EDGE != 0) == (self == End::Edge)
    }

    /// How many streams this end may have open at once that it opened.
    fn may_open(self) -> usize {
        match self {
            End::Cloud => STREAMS,
            End::Edge => STREAMS_OF_EDGE,
        }
    }

    fn other(self) -> End {
        match self {
            End::Cloud => End::Edge,
            End::Edge => End::Cloud,
        }
    }
}

/// The streams of a session. Dropped with it, which ends them.
#[derive(Default)]
pub struct Mux {
    end: End,
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

    /// No streams yet, at this end of a session.
    pub fn at(end: End) -> Mux {
        Mux { end, ..Mux::default() }
    }

    /// Streams that `end` opened.
    fn of(&self, end: End) -> usize {
        self.streams.keys().filter(|id| end.opened(**id)).count()
    }

    /// Opens a stream: this end of it, and the frame that tells the other. `None` if there are too many.
    pub fn open(&mut self) -> Option<(DuplexStream, StreamFrame)> {
        if self.of(self.end) >= self.end.may_open() {
            return None;
        }
        self.last += 1;
        let id = match self.end {
            End::Cloud => self.last,
            End::Edge => self.last | OF_EDGE,
        };
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

    /// Takes in a frame; a stream that the other end opens is connected by `connect`. The result is a frame to answer with.
    ///
    /// # Errors
    /// [`Violation`]: the other end broke the protocol.
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
        let (id, other) = (frame.id, self.end.other());
        if !other.opened(id) {
            return Err(Violation::WrongWay);
        }
        if self.streams.contains_key(&id) {
            return Err(Violation::Twice);
        }
        if self.of(other) >= other.may_open() {
            return Ok(Some(relay::reset(id, "too many streams of this node are open")));
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
