//! The two halves of a connection in the native dialect, over either transport.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::{SplitSink, SplitStream};
use native::frames::Bye;
use native::frames::frame::Body;
use native::{FrameError, MAX_FRAME_BYTES, frames};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;

use crate::budget::Meter;
use crate::connection::{PIECE, Socket, end, write, write_data};
use crate::large::Large;
use crate::{CloseReason, ReceiveError, SendError, SideStreams, Transport, WRITE_TIMEOUT};

/// What the other end sent.
#[derive(Debug)]
pub enum IncomingFrame {
    Frame(Box<Body>),
    /// A sign of life.
    Life,
}

/// The QUIC connection ended in the ordinary way.
pub(crate) const CODE_CLOSED: quinn::VarInt = quinn::VarInt::from_u32(0);

/// The writing half.
pub struct FrameSender {
    writer: Writer,
}

enum Writer {
    WebSocket(SplitSink<Socket, Frame>),
    Quic { stream: quinn::SendStream, connection: quinn::Connection },
}

/// The reading half.
pub struct FrameReceiver {
    reader: Reader,
    meter: Option<Arc<Meter>>,
    held: usize,
    /// A large frame on its way through the decoder; kept here so that `next` may be given up and called again.
    decoding: Option<Large<Result<Body, FrameError>>>,
}

enum Reader {
    WebSocket(SplitStream<Socket>),
    Quic(QuicReader),
}

pub(crate) fn split(socket: Socket, meter: Option<Arc<Meter>>) -> (FrameSender, FrameReceiver) {
    let (sink, stream) = socket.split();
    (
        FrameSender { writer: Writer::WebSocket(sink) },
        FrameReceiver { reader: Reader::WebSocket(stream), meter, held: 0, decoding: None },
    )
}

pub(crate) fn of_quic(
    connection: quinn::Connection,
    (send, receive): (quinn::SendStream, quinn::RecvStream),
    meter: Option<Arc<Meter>>,
) -> (FrameSender, FrameReceiver) {
    let reader = QuicReader { stream: receive, buffer: BytesMut::new(), limit: MAX_FRAME_BYTES };
    (
        FrameSender { writer: Writer::Quic { stream: send, connection } },
        FrameReceiver { reader: Reader::Quic(reader), meter, held: 0, decoding: None },
    )
}

impl FrameSender {
    pub fn transport(&self) -> Transport {
        match self.writer {
            Writer::WebSocket(_) => Transport::WebSocket,
            Writer::Quic { .. } => Transport::Quic,
        }
    }

    /// Streams beside the frames; only QUIC has them.
    pub fn side_streams(&self) -> Option<SideStreams> {
        match &self.writer {
            Writer::WebSocket(_) => None,
            Writer::Quic { connection, .. } => Some(SideStreams::of(connection.clone())),
        }
    }

    /// # Errors
    /// [`SendError`]: the peer did not take the frame in time, or the connection is gone.
    pub async fn send(&mut self, body: Body) -> Result<(), SendError> {
        let longest = if matches!(body, Body::Stream(_)) { usize::MAX } else { PIECE };
        let bytes = native::encode(body);
        match &mut self.writer {
            // What streams carry is written whole: connections that have streams are few, and theirs carry much.
            Writer::WebSocket(sink) => write_data(sink, Data::Binary, bytes.into(), longest).await,
            Writer::Quic { stream, .. } => write_quic(stream, bytes).await,
        }
    }

    /// Tells the peer that this end lives. QUIC does so by itself.
    ///
    /// # Errors
    /// [`SendError`] as [`FrameSender::send`]'s.
    pub async fn ping(&mut self) -> Result<(), SendError> {
        match &mut self.writer {
            Writer::WebSocket(sink) => write(sink, Frame::Ping(Bytes::new())).await,
            Writer::Quic { .. } => Ok(()),
        }
    }

    /// Says why and closes. Best effort: the peer may be gone.
    pub async fn close(mut self, reason: CloseReason) {
        let retry_after_ms = match &reason {
            CloseReason::Busy(wait) => wait.as_millis() as u64,
            _ => 0,
        };
        let _ = self.send(Body::Bye(Bye { reason: reason.text(), retry_after_ms })).await;
        match self.writer {
            Writer::WebSocket(mut sink) => {
                let _ = write(&mut sink, Frame::Close(Some(reason.frame()))).await;
            }
            Writer::Quic { mut stream, connection } => {
                let _ = stream.finish();
                // Dropping the connection would drop what the peer has not read yet.
                let _ = tokio::time::timeout(std::time::Duration::from_secs(1), stream.stopped()).await;
                connection.close(CODE_CLOSED, reason.text().as_bytes());
            }
        }
    }
}

async fn write_quic(stream: &mut quinn::SendStream, bytes: Vec<u8>) -> Result<(), SendError> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut parts = [Bytes::copy_from_slice(&length), Bytes::from(bytes)];
    let written = tokio::time::timeout(WRITE_TIMEOUT, stream.write_all_chunks(&mut parts)).await;
    match written {
        Err(_) => Err(SendError::Stalled(WRITE_TIMEOUT)),
        Ok(Err(error)) => Err(SendError::Quic(error)),
        Ok(Ok(())) => Ok(()),
    }
}

impl FrameReceiver {
    /// Bytes of the frame given last, unpacked; they count until the next is asked for.
    pub fn held(&self) -> usize {
        self.held
    }

    /// True if the transport ends a connection whose peer is silent, and keeps itself alive: QUIC. Frames may be rare.
    pub fn notices_silence(&self) -> bool {
        matches!(self.reader, Reader::Quic(_))
    }

    /// Takes no frame larger than this many bytes; over QUIC, where nobody is known before the first frame.
    pub(crate) fn limit(&mut self, bytes: usize) {
        if let Reader::Quic(reader) = &mut self.reader {
            reader.limit = bytes;
        }
    }

    /// The next frame. Cancel safe. The frame before it counts as worked off.
    ///
    /// # Errors
    /// [`ReceiveError`]: the connection ended, or what came is too large, over the budget, or no frame of the native
    /// dialect.
    pub async fn next(&mut self) -> Result<IncomingFrame, ReceiveError> {
        if self.decoding.is_none() {
            if std::mem::take(&mut self.held) > 0
                && let Some(meter) = &self.meter
            {
                meter.reset();
            }
            let Some(bytes) = self.read().await? else { return Ok(IncomingFrame::Life) };
            self.held = native::unpacked_size(&bytes);
            let unpacks = self.held.saturating_sub(bytes.len());
            if self.meter.as_ref().is_some_and(|meter| !meter.count(unpacks)) {
                return Err(ReceiveError::OverBudget);
            }
            match Large::begin(self.held, move || native::decode(&bytes)) {
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

    /// The bytes of the next frame; `None`: a sign of life. Cancel safe.
    async fn read(&mut self) -> Result<Option<Bytes>, ReceiveError> {
        match &mut self.reader {
            Reader::WebSocket(stream) => next_of_websocket(stream).await,
            Reader::Quic(reader) => reader.next(self.meter.as_deref()).await.map(Some),
        }
    }
}

fn received(decoded: Result<Body, FrameError>) -> Result<IncomingFrame, ReceiveError> {
    match decoded.map_err(ReceiveError::NotAFrame)? {
        Body::Bye(frames::Bye { reason, retry_after_ms }) => Err(ReceiveError::Bye {
            reason: reason.chars().take(256).collect(),
            retry_after: std::time::Duration::from_millis(retry_after_ms),
        }),
        body => Ok(IncomingFrame::Frame(Box::new(body))),
    }
}

/// `None`: a sign of life.
async fn next_of_websocket(stream: &mut SplitStream<Socket>) -> Result<Option<Bytes>, ReceiveError> {
    loop {
        match stream.next().await {
            Some(Ok(Frame::Binary(bytes))) => return Ok(Some(bytes)),
            Some(Ok(Frame::Text(_))) => return Err(ReceiveError::NotAFrame(native::FrameError::Unknown)),
            Some(Ok(Frame::Pong(_) | Frame::Ping(_))) => return Ok(None),
            Some(Ok(Frame::Frame(_))) => {}
            Some(Ok(Frame::Close(_))) | None => return Err(ReceiveError::Closed),
            Some(Err(error)) => return Err(end(error, MAX_FRAME_BYTES)),
        }
    }
}

/// Cuts a QUIC stream into frames.
struct QuicReader {
    stream: quinn::RecvStream,
    buffer: BytesMut,
    /// Largest frame taken, in bytes.
    limit: usize,
}

/// Bytes taken from the stream at once.
const CHUNK: usize = 64 * 1024;

impl QuicReader {
    /// Length of the frame that has begun.
    fn claimed(&self) -> usize {
        let head = self.buffer.first_chunk::<4>();
        head.map_or(0, |head| u32::from_be_bytes(*head) as usize)
    }

    async fn next(&mut self, meter: Option<&Meter>) -> Result<Bytes, ReceiveError> {
        loop {
            if self.claimed() > self.limit {
                return Err(ReceiveError::TooLarge { limit: self.limit });
            }
            match native::split(&mut self.buffer) {
                Ok(Some(frame)) => return Ok(frame),
                // Quiet connections hold no buffer.
                Ok(None) if self.buffer.is_empty() => self.buffer = BytesMut::new(),
                Ok(None) => {}
                Err(_) => return Err(ReceiveError::TooLarge { limit: MAX_FRAME_BYTES }),
            }
            match self.stream.read_chunk(CHUNK, true).await {
                Ok(Some(chunk)) => {
                    if meter.is_some_and(|meter| !meter.count(chunk.bytes.len())) {
                        return Err(ReceiveError::OverBudget);
                    }
                    self.buffer.extend_from_slice(&chunk.bytes);
                }
                Ok(None) => return Err(ReceiveError::Closed),
                Err(error) => return Err(ReceiveError::Quic(error)),
            }
        }
    }
}
