//! The two halves of an upgraded connection in KubeEdge's dialect.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use message::{DecodeError, Message};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::error::Elapsed;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame as Piece;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error as WebSocketError, Message as Frame};

use crate::budget::Meter;
use crate::large::Large;
use crate::{ReceiveError, SendError, WRITE_TIMEOUT};

/// A byte stream under the WebSocket: TLS over TCP, or memory in tests.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
pub(crate) type Stream = Box<dyn Io>;
pub(crate) type Socket = WebSocketStream<Stream>;

/// Buffers small enough for many thousand idle connections (measured: 24 KiB each instead of 152).
pub(crate) fn limits(max_message: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(2048)
        .write_buffer_size(0)
        .max_write_buffer_size(message::MAX_MESSAGE_BYTES + 1024 * 1024)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
}

pub(crate) fn split(socket: Socket, max_message: usize, meter: Option<Arc<Meter>>) -> (Sender, Receiver) {
    let (sink, stream) = socket.split();
    (Sender { sink }, Receiver { stream, max_message, meter, held: 0, decoding: None })
}

/// What the other end sent.
#[derive(Debug)]
pub enum Incoming {
    Message(Box<Message>),
    /// The answer to [`Sender::ping`].
    Pong,
}

/// Why a connection is closed, told to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    Done,
    TooLarge,
    NotAMessage,
    /// A newer connection of the same node took over.
    Replaced,
    Stopping,
    NotAllowed,
    /// The operator put the node out; the text says how it comes back.
    PutOut(String),
    /// The node object was deleted.
    NodeDeleted,
    /// Too much at once; come back after this.
    Busy(Duration),
}

impl CloseReason {
    /// What a person reads.
    pub fn text(&self) -> String {
        match self {
            CloseReason::Done => "done".to_owned(),
            CloseReason::TooLarge => "message is larger than the limit".to_owned(),
            CloseReason::NotAMessage => "frame is not a message".to_owned(),
            CloseReason::Replaced => "a newer connection of this node took over".to_owned(),
            CloseReason::Stopping => "the server is stopping".to_owned(),
            CloseReason::NotAllowed => "not allowed".to_owned(),
            CloseReason::PutOut(why) => why.clone(),
            CloseReason::NodeDeleted => "the node was deleted".to_owned(),
            CloseReason::Busy(wait) => format!("busy, try again after {} ms", wait.as_millis()),
        }
    }

    pub(crate) fn frame(&self) -> CloseFrame {
        let code = match self {
            CloseReason::Done => CloseCode::Normal,
            CloseReason::TooLarge => CloseCode::Size,
            CloseReason::NotAMessage => CloseCode::Invalid,
            CloseReason::Replaced
            | CloseReason::NotAllowed
            | CloseReason::PutOut(_)
            | CloseReason::NodeDeleted => CloseCode::Policy,
            CloseReason::Stopping => CloseCode::Restart,
            CloseReason::Busy(_) => CloseCode::Again,
        };
        CloseFrame { code, reason: self.text().into() }
    }
}

/// Bytes given to the WebSocket at once. Its buffer keeps the size of the largest piece for as long as the connection
/// lasts; half as long as the pieces of Go peers (docs/protocol/transport.md 2.1), at a cost of 0.6 % more bytes.
pub(crate) const PIECE: usize = 2048;

/// Writes one message of `kind` before the deadline, in pieces of at most so many bytes. Each is a write to the socket.
pub(crate) async fn write_data(
    sink: &mut SplitSink<Socket, Frame>,
    kind: Data,
    mut rest: Bytes,
    longest: usize,
) -> Result<(), SendError> {
    let write = async {
        let mut opcode = OpCode::Data(kind);
        loop {
            let piece = rest.split_to(rest.len().min(longest));
            sink.feed(Frame::Frame(Piece::message(piece, opcode, rest.is_empty()))).await?;
            if rest.is_empty() {
                return sink.flush().await;
            }
            opcode = OpCode::Data(Data::Continue);
        }
    };
    written(tokio::time::timeout(WRITE_TIMEOUT, write).await)
}

/// Writes one control message before the deadline.
pub(crate) async fn write(sink: &mut SplitSink<Socket, Frame>, frame: Frame) -> Result<(), SendError> {
    written(tokio::time::timeout(WRITE_TIMEOUT, sink.send(frame)).await)
}

fn written(result: Result<Result<(), WebSocketError>, Elapsed>) -> Result<(), SendError> {
    match result {
        Err(_) => Err(SendError::Stalled(WRITE_TIMEOUT)),
        Ok(Err(error)) => Err(SendError::Write(Box::new(error))),
        Ok(Ok(())) => Ok(()),
    }
}

/// What ended a WebSocket.
pub(crate) fn end(error: WebSocketError, limit: usize) -> ReceiveError {
    match error {
        WebSocketError::Capacity(_) => ReceiveError::TooLarge { limit },
        WebSocketError::ConnectionClosed | WebSocketError::AlreadyClosed => ReceiveError::Closed,
        error => ReceiveError::Read(Box::new(error)),
    }
}

/// The writing half.
pub struct Sender {
    sink: SplitSink<Socket, Frame>,
}

impl Sender {
    /// Writes one message as text.
    ///
    /// # Errors
    /// [`SendError`]: the peer did not take the message in time, or the connection is gone.
    pub async fn send(&mut self, message: &Message) -> Result<(), SendError> {
        write_data(&mut self.sink, Data::Text, message::encode(message).into(), PIECE).await
    }

    /// Asks the peer for a sign of life; Go peers answer by themselves.
    ///
    /// # Errors
    /// [`SendError`] as [`Sender::send`]'s.
    pub async fn ping(&mut self) -> Result<(), SendError> {
        write(&mut self.sink, Frame::Ping(Bytes::new())).await
    }

    /// Says why and closes. Best effort: the peer may be gone.
    pub async fn close(mut self, reason: CloseReason) {
        let _ = write(&mut self.sink, Frame::Close(Some(reason.frame()))).await;
    }
}

/// The reading half. Fragments are joined, text and binary read alike, pings answered.
pub struct Receiver {
    stream: SplitStream<Socket>,
    max_message: usize,
    meter: Option<Arc<Meter>>,
    held: usize,
    /// A large message on its way through the decoder; kept here so that `next` may be given up and called again.
    decoding: Option<Large<Result<Message, DecodeError>>>,
}

impl Receiver {
    /// The next message. Cancel safe. The message before it counts as worked off.
    ///
    /// # Errors
    /// [`ReceiveError`]: the connection ended, or what came is too large, over the budget, or no message.
    pub async fn next(&mut self) -> Result<Incoming, ReceiveError> {
        if self.decoding.is_none() {
            if std::mem::take(&mut self.held) > 0
                && let Some(meter) = &self.meter
            {
                meter.reset();
            }
            let Some(bytes) = self.read().await? else { return Ok(Incoming::Pong) };
            self.held = bytes.len();
            match Large::begin(self.held, move || message::decode(&bytes)) {
                Ok(large) => self.decoding = Some(large),
                Err(decoded) => return received(decoded),
            }
        }
        let decoded = match &mut self.decoding {
            Some(decoding) => decoding.result().await,
            None => None,
        };
        self.decoding = None;
        received(decoded.ok_or(ReceiveError::Closed)?)
    }

    /// The bytes of the next message; `None`: a pong. Cancel safe.
    async fn read(&mut self) -> Result<Option<Bytes>, ReceiveError> {
        loop {
            match self.stream.next().await {
                Some(Ok(Frame::Text(text))) => return Ok(Some(text.into())),
                Some(Ok(Frame::Binary(bytes))) => return Ok(Some(bytes)),
                Some(Ok(Frame::Pong(_))) => return Ok(None),
                Some(Ok(Frame::Ping(_) | Frame::Frame(_))) => {}
                Some(Ok(Frame::Close(_))) | None => return Err(ReceiveError::Closed),
                Some(Err(error)) => return Err(end(error, self.max_message)),
            }
        }
    }

    /// Bytes of the message given last; they count until the next is asked for.
    pub fn held(&self) -> usize {
        self.held
    }
}

fn received(decoded: Result<Message, DecodeError>) -> Result<Incoming, ReceiveError> {
    decoded.map(|message| Incoming::Message(Box::new(message))).map_err(ReceiveError::NotAMessage)
}
