//! What is sent to be read: lengths that lie, nesting without end, little that unpacks to much.

use anyhow::Result;
use native::frames::frame::Body;
use native::frames::{Change, Envelope, Objects, change};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::raw::{BINARY, End, MORE, TEXT, TEXT_BEGUN, frame, header, repeat, until_closed};

/// Deep enough for any recursion, short enough for every limit of bytes.
const DEPTH: usize = 100_000;
/// The largest frame a peer may send once it is unpacked.
const LARGEST: usize = native::MAX_FRAME_BYTES;
/// Four times of it: nobody may unpack this.
const BEYOND: usize = 4 * LARGEST;

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bomb {
    /// Claims 2^62 bytes.
    Length,
    /// Claims a gigabyte and begins to send it.
    Gigabyte,
    /// A message whose fragments do not end.
    Fragments,
    /// Valid envelopes of the largest size, as fast as they are taken.
    Large,
    /// A message, and the content of one, nested without end.
    Deep,
    /// Native: a field that claims more than its frame.
    Field,
    /// Native: unpacks to more than it says, and to more than is allowed.
    Zstd,
    /// Native: valid frames that unpack to the largest size, as fast as they are taken.
    Unpack,
}

impl Bomb {
    /// True if it is sent in the native dialect.
    pub(super) fn is_native(self) -> bool {
        matches!(self, Bomb::Field | Bomb::Zstd | Bomb::Unpack)
    }
}

/// Throws one bomb at a connection that was upgraded, then waits until the peer closes.
pub(super) async fn throw<S>(bomb: Bomb, end: End, stream: &mut S) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let chunk = vec![b'a'; 64 * 1024];
    match bomb {
        Bomb::Length => {
            stream.write_all(&header(end, TEXT, 1 << 62)).await?;
            repeat(stream, &chunk, 64).await?;
        }
        Bomb::Gigabyte => {
            stream.write_all(&header(end, TEXT, 1 << 30)).await?;
            repeat(stream, &chunk, 16 * 1024).await?;
        }
        Bomb::Fragments => {
            stream.write_all(&frame(end, TEXT_BEGUN, &chunk)).await?;
            repeat(stream, &frame(end, MORE, &chunk), 16 * 1024).await?;
        }
        Bomb::Large => repeat(stream, &frame(end, TEXT, &large(end)), 64).await?,
        Bomb::Deep => {
            let nested = format!("{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH));
            repeat(stream, &frame(end, TEXT, envelope(end, &nested).as_bytes()), 20).await?;
            repeat(stream, &frame(end, TEXT, nested.as_bytes()), 20).await?;
        }
        Bomb::Field => {
            let mut lying = vec![PLAIN, 0x0a];
            lying.extend([0xff, 0xff, 0xff, 0xff, 0x7f]);
            stream.write_all(&frame(end, BINARY, &lying)).await?;
        }
        Bomb::Zstd => {
            for (claimed, size) in [(100, BEYOND), (LARGEST, BEYOND), (BEYOND, BEYOND)] {
                let packed = packed(claimed, &vec![0; size])?;
                stream.write_all(&frame(end, BINARY, &packed)).await?;
            }
        }
        Bomb::Unpack => repeat(stream, &frame(end, BINARY, &unpacks_to_largest(end)), 2000).await?,
    }
    until_closed(stream).await;
    Ok(())
}

/// A valid envelope with `content`: a question of an edge, an object of a cloud.
fn envelope(end: End, content: &str) -> String {
    let (source, group, operation) = match end {
        End::Client => ("edged", "meta", "query"),
        End::Server => ("edgecontroller", "resource", "update"),
    };
    format!(
        "{{\"header\":{{\"msg_id\":\"1\",\"timestamp\":1,\"resourceversion\":\"7\"}},\"route\":{{\"source\":\"{source}\",\
         \"group\":\"{group}\",\"operation\":\"{operation}\",\"resource\":\"default/configmap/x\"}},\"content\":{content}}}"
    )
}

/// A config map of about `size` bytes.
fn config_map(size: usize) -> String {
    let text = "x".repeat(size);
    format!(
        "{{\"metadata\":{{\"name\":\"x\",\"namespace\":\"default\",\"uid\":\"u\"}},\"data\":{{\"text\":\"{text}\"}}}}"
    )
}

fn large(end: End) -> Vec<u8> {
    envelope(end, &config_map(LARGEST - 4096)).into_bytes()
}

/// A valid frame, a few KiB long.
fn unpacks_to_largest(end: End) -> Vec<u8> {
    match end {
        End::Client => native::encode(Body::Call(Envelope { json: large(end), delta: None })),
        End::Server => {
            let change = Change {
                ticket: 1,
                resource: "default/configmap/x".to_owned(),
                uid: "u".to_owned(),
                version: "7".to_owned(),
                mark: 1,
                source: String::new(),
                first: false,
                body: Some(change::Body::Full(config_map(LARGEST - 4096).into_bytes())),
            };
            native::encode(Body::Objects(Objects { changes: vec![change] }))
        }
    }
}

fn packed(claimed: usize, plain: &[u8]) -> Result<Vec<u8>> {
    let mut packed = vec![ZSTD];
    varint(claimed, &mut packed);
    packed.extend(zstd::bulk::compress(plain, 1)?);
    Ok(packed)
}

fn varint(mut value: usize, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}
