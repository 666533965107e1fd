//! Mends the `:authority` of HTTP/2 requests on its way from a client to our server.
//!
//! grpc-go sends the socket path there (`%2Fetc%2Fkubeedge%2Fdmi.sock`, older builds unescaped), which the h2 crate
//! refuses with a protocol error. This filter rewrites header blocks frame by frame, on unix sockets only, and leaves
//! every other byte alone. Source: docs/protocol/devices.md 5.1, the hardest trap for Rust; frames RFC 9113, headers RFC 7541.

use std::io;

use listener::http2;
use loona_hpack::{Decoder, Encoder};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Largest frame passed on; peers send 16 KiB unless told otherwise.
const MAX_FRAME: usize = 1024 * 1024;
/// Largest header block, in one frame or several.
const MAX_BLOCK: usize = 64 * 1024;
/// Frame size every peer accepts.
const SAFE_FRAME: usize = 16 * 1024;

/// Copies a client's side of a connection to `server` until it ends, mending header blocks. The end is the caller's to
/// tell.
pub(crate) async fn relay<R, W>(mut client: R, mut server: W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    http2::preface(&mut client).await?;
    server.write_all(http2::PREFACE).await?;
    let mut headers = Headers { decoder: Decoder::new(), encoder: Encoder::new() };
    loop {
        let frame = match Frame::read(&mut client).await {
            Ok(frame) => frame,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        };
        if frame.kind == HEADERS {
            let mended = headers.mend(frame, &mut client).await?;
            server.write_all(&mended).await?;
        } else {
            server.write_all(&frame.bytes()).await?;
        }
    }
    Ok(())
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: [u8; 4],
    payload: Vec<u8>,
}

impl Frame {
    async fn read<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<Frame> {
        let mut header = [0; FRAME_HEADER];
        from.read_exact(&mut header).await?;
        let [a, b, c, kind, flags, stream @ ..] = header;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > MAX_FRAME {
            return Err(invalid("frame is too large"));
        }
        let mut payload = vec![0; length];
        from.read_exact(&mut payload).await?;
        Ok(Frame { kind, flags, stream, payload })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FRAME_HEADER + self.payload.len());
        bytes.extend(&(self.payload.len() as u32).to_be_bytes()[1..]);
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream);
        bytes.extend(&self.payload);
        bytes
    }

    /// The part of a HEADERS payload that is the header block.
    fn block(&self) -> io::Result<&[u8]> {
        let mut block = self.payload.as_slice();
        let mut padding = 0;
        if self.flags & PADDED != 0 {
            let (first, rest) = block.split_first().ok_or_else(|| invalid("padded frame is empty"))?;
            (padding, block) = (usize::from(*first), rest);
        }
        if self.flags & PRIORITY != 0 {
            block = block.get(5..).ok_or_else(|| invalid("priority is cut off"))?;
        }
        let end = block.len().checked_sub(padding).ok_or_else(|| invalid("more padding than frame"))?;
        Ok(&block[..end])
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The compression state of one connection: ours towards the server replaces the client's.
struct Headers<'a> {
    decoder: Decoder<'a>,
    encoder: Encoder<'a>,
}

impl Headers<'_> {
    /// The frames that carry the mended block of `first` and its continuations.
    async fn mend<R: AsyncRead + Unpin>(&mut self, first: Frame, client: &mut R) -> io::Result<Vec<u8>> {
        let mut block = first.block()?.to_vec();
        let mut complete = first.flags & END_HEADERS != 0;
        while !complete {
            let next = Frame::read(client).await?;
            if next.kind != CONTINUATION || next.stream != first.stream {
                return Err(invalid("header block is interrupted"));
            }
            complete = next.flags & END_HEADERS != 0;
            block.extend(&next.payload);
            if block.len() > MAX_BLOCK {
                return Err(invalid("header block is too large"));
            }
        }
        let mut list = self.decoder.decode(&block).map_err(|_| invalid("header block is not HPACK"))?;
        for (name, value) in &mut list {
            if name == b":authority" {
                *value = b"localhost".to_vec();
            }
        }
        let encoded =
            self.encoder.encode(list.iter().map(|(name, value)| (name.as_slice(), value.as_slice())));
        Ok(frames(&encoded, first.flags & END_STREAM, first.stream))
    }
}

fn frames(block: &[u8], end_stream: u8, stream: [u8; 4]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(block.len() + FRAME_HEADER);
    let mut parts = block.chunks(SAFE_FRAME).peekable();
    let mut kind = HEADERS;
    let mut flags = end_stream;
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            flags |= END_HEADERS;
        }
        bytes.extend(Frame { kind, flags, stream, payload: part.to_vec() }.bytes());
        (kind, flags) = (CONTINUATION, 0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn mended(frames: Vec<u8>) -> Vec<u8> {
        let mut sent = http2::PREFACE.to_vec();
        sent.extend(frames);
        let (mut server, ours) = tokio::io::duplex(1 << 20);
        relay(sent.as_slice(), ours).await.unwrap();
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        got.split_off(http2::PREFACE.len())
    }

    fn headers_frame(authority: &str, flags: u8, prefix: &[u8]) -> Vec<u8> {
        let list =
            [(&b":method"[..], &b"POST"[..]), (b":authority", authority.as_bytes()), (b"te", b"trailers")];
        let mut payload = prefix.to_vec();
        payload.extend(Encoder::new().encode(list));
        Frame { kind: HEADERS, flags, stream: [0, 0, 0, 1], payload }.bytes()
    }

    async fn authority_after(frames: Vec<u8>) -> String {
        let got = mended(frames).await;
        let frame = Frame::read(&mut got.as_slice()).await.unwrap();
        assert_eq!(frame.flags & (END_HEADERS | PADDED | PRIORITY), END_HEADERS);
        let list = Decoder::new().decode(frame.block().unwrap()).unwrap();
        let value = list.into_iter().find(|(name, _)| name == b":authority").unwrap().1;
        String::from_utf8(value).unwrap()
    }

    #[tokio::test]
    async fn the_authority_a_go_mapper_sends_is_mended() {
        for authority in ["%2Fetc%2Fkubeedge%2Fdmi.sock", "/etc/kubeedge/dmi.sock", "localhost"] {
            assert_eq!(authority_after(headers_frame(authority, END_HEADERS, &[])).await, "localhost");
            let prioritised = headers_frame(authority, END_HEADERS | PRIORITY, &[0; 5]);
            assert_eq!(authority_after(prioritised).await, "localhost");
        }
    }

    #[tokio::test]
    async fn a_block_in_several_frames_is_joined_and_other_frames_pass_unchanged() {
        let whole = headers_frame("/x", 0, &[]);
        let (head, tail) = whole.split_at(FRAME_HEADER + 4);
        let mut first = Frame {
            kind: HEADERS,
            flags: END_STREAM,
            stream: [0, 0, 0, 1],
            payload: head[FRAME_HEADER..].to_vec(),
        }
        .bytes();
        first.extend(
            Frame { kind: CONTINUATION, flags: END_HEADERS, stream: [0, 0, 0, 1], payload: tail.to_vec() }
                .bytes(),
        );
        assert_eq!(authority_after(first).await, "localhost");
        let data = Frame { kind: 0, flags: 1, stream: [0, 0, 0, 1], payload: vec![7; 3] }.bytes();
        assert_eq!(mended(data.clone()).await, data);
    }

    #[tokio::test]
    async fn noise_ends_the_connection_with_an_error() {
        let mut sent = http2::PREFACE.to_vec();
        sent.extend([0xff; 64]);
        assert!(relay(sent.as_slice(), tokio::io::sink()).await.is_err());
        let mut sent = http2::PREFACE.to_vec();
        sent.extend(Frame { kind: HEADERS, flags: PADDED, stream: [0; 4], payload: vec![200, 1] }.bytes());
        assert!(relay(sent.as_slice(), tokio::io::sink()).await.is_err());
    }
}
