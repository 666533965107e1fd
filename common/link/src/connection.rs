//! The two halves of an upgraded connection.

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use message::{MAX_MESSAGE_BYTES, Message};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error as WebSocketError, Message as Frame};

use crate::{ReceiveError, SendError, WRITE_TIMEOUT};

/// A byte stream under the WebSocket: TLS over TCP, or memory in tests.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
pub(crate) type Stream = Box<dyn Io>;

/// Buffers small enough for many thousand idle connections (measured: 24 KiB each instead of 152).
pub(crate) fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_MESSAGE_BYTES + 1024 * 1024)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
}

pub(crate) fn split(socket: WebSocketStream<Stream>) -> (Sender, Receiver) {
    let (sink, stream) = socket.split();
    (Sender { sink }, Receiver { stream })
}

/// What the other end sent.
#[derive(Debug)]
pub enum Incoming {
    Message(Box<Message>),
    /// The answer to [`Sender::ping`].
    Pong,
}

/// Why a connection is closed, told to the peer as a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    Done,
    TooLarge,
    NotAMessage,
    /// A newer connection of the same node took over.
    Replaced,
    Stopping,
    NotAllowed,
}

impl CloseReason {
    fn frame(self) -> CloseFrame {
        let (code, reason) = match self {
            CloseReason::Done => (CloseCode::Normal, "done"),
            CloseReason::TooLarge => (CloseCode::Size, "message is larger than the limit"),
            CloseReason::NotAMessage => (CloseCode::Invalid, "frame is not a message"),
            CloseReason::Replaced => (CloseCode::Policy, "a newer connection of this node took over"),
            CloseReason::Stopping => (CloseCode::Restart, "the server is stopping"),
            CloseReason::NotAllowed => (CloseCode::Policy, "not allowed"),
        };
        CloseFrame { code, reason: reason.into() }
    }
}

/// The writing half.
pub struct Sender {
    sink: SplitSink<WebSocketStream<Stream>, Frame>,
}

impl Sender {
    /// Writes one message as a text frame.
    pub async fn send(&mut self, message: &Message) -> Result<(), SendError> {
        self.write(Frame::text(message::encode(message))).await
    }

    /// Asks the peer for a sign of life; Go peers answer by themselves.
    pub async fn ping(&mut self) -> Result<(), SendError> {
        self.write(Frame::Ping(Bytes::new())).await
    }

    /// Says why and closes. Best effort: the peer may be gone.
    pub async fn close(mut self, reason: CloseReason) {
        let _ = self.write(Frame::Close(Some(reason.frame()))).await;
    }

    async fn write(&mut self, frame: Frame) -> Result<(), SendError> {
        match tokio::time::timeout(WRITE_TIMEOUT, self.sink.send(frame)).await {
            Err(_) => Err(SendError::Stalled(WRITE_TIMEOUT)),
            Ok(Err(error)) => Err(SendError::Write(Box::new(error))),
            Ok(Ok(())) => Ok(()),
        }
    }
}

/// The reading half. Fragments are joined, text and binary read alike, pings answered.
pub struct Receiver {
    stream: SplitStream<WebSocketStream<Stream>>,
}

impl Receiver {
    /// The next message. Cancel safe.
    pub async fn next(&mut self) -> Result<Incoming, ReceiveError> {
        loop {
            match self.stream.next().await {
                Some(Ok(Frame::Text(text))) => return decode(text.as_bytes()),
                Some(Ok(Frame::Binary(bytes))) => return decode(&bytes),
                Some(Ok(Frame::Pong(_))) => return Ok(Incoming::Pong),
                Some(Ok(Frame::Ping(_) | Frame::Frame(_))) => {}
                Some(Ok(Frame::Close(_))) | None => return Err(ReceiveError::Closed),
                Some(Err(WebSocketError::Capacity(_))) => return Err(ReceiveError::TooLarge),
                Some(Err(WebSocketError::ConnectionClosed | WebSocketError::AlreadyClosed)) => {
                    return Err(ReceiveError::Closed);
                }
                Some(Err(error)) => return Err(ReceiveError::Read(Box::new(error))),
            }
        }
    }
}

fn decode(bytes: &[u8]) -> Result<Incoming, ReceiveError> {
    message::decode(bytes)
        .map(|message| Incoming::Message(Box::new(message)))
        .map_err(ReceiveError::NotAMessage)
}
