//! The WebSocket of a tunnel while it is up: reading never waits for writing, as both ends may have much to say at once.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, FramedWrite};

use crate::Frame;
use crate::error::{ANSWERS, SocketError, WRITE};
use crate::websocket::{Codec, In, Out, Role};

/// Messages on their way to the connection.
const WAITING: usize = 2;

/// What happened.
pub(crate) enum Event {
    Frame(Frame),
    /// Something else came.
    Sign,
    /// One that waited is on its way.
    Sent,
}

/// Both halves: writing has a task of its own, which ends with this.
pub(crate) struct Socket<S> {
    from: FramedRead<ReadHalf<S>, Codec>,
    to: mpsc::Sender<Out>,
    /// What waits for its turn.
    waiting: VecDeque<Out>,
    writing: tokio::task::JoinHandle<SocketError>,
}

impl<S> Drop for Socket<S> {
    fn drop(&mut self) {
        self.writing.abort();
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Socket<S> {
    /// `stream` is upgraded already.
    pub(crate) fn new(stream: S, role: Role) -> Socket<S> {
        let (from, to) = tokio::io::split(stream);
        let from = FramedRead::new(from, Codec::new(role));
        let (say, said) = mpsc::channel(WAITING);
        let writing = tokio::spawn(write(FramedWrite::new(to, Codec::new(role)), said));
        Socket { from, to: say, waiting: VecDeque::new(), writing }
    }

    /// True if nothing waits: then there is room for what connections say.
    pub(crate) fn is_free(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends behind what waits.
    ///
    /// # Errors
    /// The peer does not read.
    pub(crate) fn send(&mut self, frame: &Frame) -> Result<(), SocketError> {
        self.push(Out::Message(frame.encode()))
    }

    pub(crate) fn ping(&mut self, text: &'static [u8]) -> Result<(), SocketError> {
        self.push(Out::Ping(Bytes::from_static(text)))
    }

    fn push(&mut self, out: Out) -> Result<(), SocketError> {
        if self.waiting.len() >= ANSWERS {
            return Err(SocketError::Unread);
        }
        self.waiting.push_back(out);
        Ok(())
    }

    /// The next that happens. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Event, SocketError> {
        let came = tokio::select! {
            came = self.from.next() => came.unwrap_or(Err(SocketError::Closed))?,
            ended = &mut self.writing => return Err(ended.unwrap_or(SocketError::Closed)),
            place = self.to.reserve(), if !self.waiting.is_empty() => {
                // Without a place, the task has ended and says why.
                if let (Ok(place), Some(out)) = (place, self.waiting.pop_front()) {
                    place.send(out);
                }
                return Ok(Event::Sent);
            }
        };
        match came {
            In::Message(bytes) => Ok(Event::Frame(Frame::decode(bytes)?)),
            In::Ping(text) => self.push(Out::Pong(text)).map(|()| Event::Sign),
            In::Pong => Ok(Event::Sign),
            In::Close => Err(SocketError::Closed),
        }
    }

    /// Sends what waits and that this end closes, if the peer still takes it.
    pub(crate) async fn close(mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.push_back(Out::Close);
        let last = async {
            for out in waiting {
                if self.to.send(out).await.is_err() {
                    return;
                }
            }
            // The task ends behind its last message.
            let (closed, _) = mpsc::channel(1);
            self.to = closed;
            let _ = (&mut self.writing).await;
        };
        let _ = tokio::time::timeout(WRITE, last).await;
    }
}

async fn write<S: AsyncWrite + Unpin>(
    mut to: FramedWrite<WriteHalf<S>, Codec>,
    mut said: mpsc::Receiver<Out>,
) -> SocketError {
    while let Some(out) = said.recv().await {
        match tokio::time::timeout(WRITE, to.send(out)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(_) => return SocketError::Stalled,
        }
    }
    SocketError::Closed
}
