//! Packets from a byte stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use rumqttc::{Packet, mqttbytes};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::pace::Pace;

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("a large packet did not arrive in time")]
    Slow,
    #[error("reading from the client")]
    Io(#[source] std::io::Error),
    #[error("packet is malformed or too large")]
    Malformed(#[source] mqttbytes::Error),
    #[error("packet has flags its type does not allow")]
    Flags,
    #[error("protocol level is not that of MQTT 3.1 or 3.1.1")]
    Version,
}

/// Bytes asked of the socket at once.
const CHUNK: usize = 4 * 1024;
/// What a packet costs besides its bytes, in bytes that take as long.
const PACKET_COST: u64 = 1024;
/// A client that owes as much pays before it is served again, so that the others' turns come soon.
const TURN: u64 = 64 * 1024;

/// Bytes of a packet that may arrive before it takes of the budget for large ones.
const SMALL: usize = 8 * 1024;
/// A payload of this many bytes has a read buffer that is little larger: room for it was made at once.
pub(super) const WHOLE: usize = 4 * SMALL;
/// Bytes of large packets that may be arriving at once, of all clients.
pub(super) const LARGE: usize = 4 * 1024 * 1024;
/// How long a large packet may take of the budget.
const LARGE_WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Packets<'a, R> {
    stream: R,
    buffer: BytesMut,
    max: usize,
    /// In bytes.
    pace: &'a Pace,
    /// Read and not yet taken from the pace.
    owed: u64,
    /// The client speaks MQTT 3.1.
    is_older: bool,
    budget: &'a Arc<Semaphore>,
    /// Of the budget, while a large packet arrives; it must be there by then.
    large: Option<(OwnedSemaphorePermit, Instant)>,
}

impl<R: AsyncRead + Unpin> Packets<'_, R> {
    pub(super) fn new<'a>(
        stream: R,
        max: usize,
        pace: &'a Pace,
        budget: &'a Arc<Semaphore>,
    ) -> Packets<'a, R> {
        Packets { stream, buffer: BytesMut::new(), max, pace, owed: 0, is_older: false, budget, large: None }
    }

    /// The next packet; `None` if the client closed the connection.
    ///
    /// # Errors
    /// [`ReadError`]: the connection broke, or what came is no packet or too large.
    pub(super) async fn next(&mut self) -> Result<Option<Packet>, ReadError> {
        loop {
            if self.owed >= TURN {
                self.pace.take(std::mem::take(&mut self.owed)).await;
            }
            if let Some(packet) = self.take()? {
                self.owed += PACKET_COST;
                if self.large.take().is_some() {
                    // A large packet must not keep its memory for the life of the connection.
                    self.buffer = BytesMut::from(self.buffer.as_ref());
                }
                return Ok(Some(packet));
            }
            match self.read().await? {
                0 => return Ok(None),
                read => self.owed += read as u64,
            }
        }
    }

    async fn read(&mut self) -> Result<usize, ReadError> {
        if self.large.is_none() && self.buffer.len() > SMALL {
            let bytes = frame_bytes(&self.buffer).min(LARGE) as u32;
            // Never closed.
            let permit = self.budget.clone().acquire_many_owned(bytes).await.ok();
            self.large = permit.map(|permit| (permit, Instant::now() + LARGE_WITHIN));
            // At once, not by doubling.
            let whole = frame_bytes(&self.buffer).min(self.max) + CHUNK;
            self.buffer.reserve(whole.saturating_sub(self.buffer.len()));
        }
        self.buffer.reserve(CHUNK);
        let read = self.stream.read_buf(&mut self.buffer);
        let read = match &self.large {
            None => read.await,
            Some((_, due)) => tokio::time::timeout_at(*due, read).await.map_err(|_| ReadError::Slow)?,
        };
        read.map_err(ReadError::Io)
    }

    fn take(&mut self) -> Result<Option<Packet>, ReadError> {
        // Before the length: a client of another protocol must not be waited for.
        if self.buffer.first().is_some_and(|first| !has_valid_flags(*first, self.is_older)) {
            return Err(ReadError::Flags);
        }
        match mqttbytes::check(self.buffer.iter(), self.max) {
            Ok(_) => {}
            Err(mqttbytes::Error::InsufficientBytes(_)) => return Ok(None),
            Err(error) => return Err(ReadError::Malformed(error)),
        }
        match version(&self.buffer) {
            Some(Version::Current) | None => {}
            Some(Version::Older) => {
                self.is_older = true;
                self.buffer = as_current(&self.buffer);
            }
            Some(Version::Other) => return Err(ReadError::Version),
        }
        Packet::read(&mut self.buffer, self.max).map(Some).map_err(ReadError::Malformed)
    }
}

/// The lower half of the first byte (MQTT 3.1.1 table 2.2); MQTT 3.1 also marks repeats of PUBREL, SUBSCRIBE and
/// UNSUBSCRIBE there.
fn has_valid_flags(first: u8, is_older: bool) -> bool {
    match first >> 4 {
        3 => true,
        6 | 8 | 10 => first & 0xf == 2 || (is_older && first & 0xf == 0xa),
        _ => first & 0xf == 0,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// MQTT 3.1.1, which the codec reads.
    Current,
    /// MQTT 3.1, whose packets are those of 3.1.1 but for the first words of CONNECT.
    Older,
    /// MQTT 5 and others, whose fields the codec would misread.
    Other,
}

/// What 3.1 says where 3.1.1 says `MQTT` and 4.
const OLDER: &[u8] = b"\0\x06MQIsdp\x03";
const CURRENT: &[u8] = b"\0\x04MQTT\x04";

/// Bytes before the body: the type and the remaining length, whose last byte has no top bit.
fn header_bytes(frame: &[u8]) -> usize {
    1 + frame.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 1
}

/// The version a whole CONNECT asks for; `None` if it is something else.
fn version(frame: &[u8]) -> Option<Version> {
    if frame.first()? >> 4 != 1 {
        return None;
    }
    let mut body = frame.get(header_bytes(frame)..).unwrap_or_default();
    if body.starts_with(OLDER) {
        return Some(Version::Older);
    }
    if body.len() < 2 {
        return None;
    }
    let name = usize::from(body.get_u16());
    match (body.get(..name)?, body.get(name)?) {
        (b"MQTT", 4) => Some(Version::Current),
        (b"MQTT" | b"MQIsdp", _) => Some(Version::Other),
        _ => None,
    }
}

/// Bytes of the body, as the header says.
fn body_bytes(frame: &[u8]) -> usize {
    let digits = frame.get(1..header_bytes(frame)).unwrap_or_default().iter().take(4).enumerate();
    digits.fold(0, |sum, (at, byte)| sum | usize::from(byte & 0x7f) << (7 * at))
}

/// Bytes of the whole packet.
fn frame_bytes(frame: &[u8]) -> usize {
    header_bytes(frame) + body_bytes(frame)
}

/// A CONNECT of MQTT 3.1, and what follows it, in the words of 3.1.1.
fn as_current(bytes: &[u8]) -> BytesMut {
    let header = header_bytes(bytes);
    let mut length = (body_bytes(bytes) + CURRENT.len()).saturating_sub(OLDER.len());
    let mut current = BytesMut::with_capacity(bytes.len());
    current.put_u8(bytes[0]);
    loop {
        let more = if length > 0x7f { 0x80 } else { 0 };
        current.put_u8((length & 0x7f) as u8 | more);
        length >>= 7;
        if length == 0 {
            break;
        }
    }
    current.put_slice(CURRENT);
    current.put_slice(bytes.get(header + OLDER.len()..).unwrap_or_default());
    current
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rumqttc::{Connect, QoS};
    use tokio::io::AsyncWriteExt;

    fn read(bytes: &[u8]) -> Result<Option<Packet>, ReadError> {
        let (pace, budget) = (Pace::new(1, 0), Arc::new(Semaphore::new(LARGE)));
        let mut packets = Packets::new(tokio::io::empty(), 1024, &pace, &budget);
        packets.buffer.extend_from_slice(bytes);
        packets.take()
    }

    #[test]
    fn other_versions_and_wrong_flags_are_told_apart() {
        let mut bytes = BytesMut::new();
        Connect::new("a").write(&mut bytes).unwrap();
        assert!(matches!(read(&bytes), Ok(Some(Packet::Connect(_)))));
        bytes[8] = 5;
        assert!(matches!(read(&bytes), Err(ReadError::Version)));
        assert!(matches!(read(&[0x80, 0]), Err(ReadError::Flags)));
        assert!(matches!(read(&[0x30, 0xff, 0xff, 0x7f]), Err(ReadError::Malformed(_))));
        assert!(matches!(read(&[0x30]), Ok(None)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_packet_takes_of_the_budget_while_it_arrives_and_not_for_ever() {
        let (pace, budget) = (Pace::new(u64::MAX, 0), Arc::new(Semaphore::new(LARGE)));
        let mut frame = BytesMut::new();
        rumqttc::Publish::new("t", QoS::AtMostOnce, vec![0; 2 * SMALL]).write(&mut frame).unwrap();
        let (mut client, stream) = tokio::io::duplex(4 * SMALL);
        let mut packets = Packets::new(stream, 1 << 20, &pace, &budget);
        client.write_all(&frame).await.unwrap();
        assert!(packets.next().await.unwrap().is_some());
        assert_eq!(budget.available_permits(), LARGE);
        assert!(packets.buffer.capacity() <= SMALL, "its memory is given back");
        client.write_all(&frame[..frame.len() - 1]).await.unwrap();
        assert!(matches!(packets.next().await, Err(ReadError::Slow)));
        assert_eq!(budget.available_permits(), LARGE - frame.len());
        drop(packets);
        assert_eq!(budget.available_permits(), LARGE);
    }

    #[test]
    fn a_client_of_the_older_version_is_read_like_one_of_the_current() {
        for id in ["a", &"long".repeat(40)] {
            let mut bytes = BytesMut::new();
            Connect::new(id).write(&mut bytes).unwrap();
            let mut older = Connect::new(id);
            older.keep_alive = 10;
            let header = header_bytes(&bytes);
            let mut body = OLDER.to_vec();
            body.extend_from_slice(&bytes[header + CURRENT.len()..]);
            let mut frame = vec![0x10];
            if body.len() > 127 {
                frame.extend([(body.len() % 128) as u8 | 0x80, (body.len() / 128) as u8]);
            } else {
                frame.push(body.len() as u8);
            }
            frame.extend(body);
            assert_eq!(read(&frame).unwrap(), Some(Packet::Connect(older)));
        }
        assert!(!has_valid_flags(0x8a, false) && has_valid_flags(0x8a, true));
    }

    proptest! {
        #[test]
        fn noise_never_panics(first in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..120)) {
            let mut bytes = vec![first, body.len() as u8];
            bytes.extend(&body);
            let _ = read(&bytes);
            let _ = read(&body);
        }

        #[test]
        fn a_written_message_is_read_back(topic in "[a-z/$]{1,20}", payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut publish = rumqttc::Publish::new(topic, QoS::AtLeastOnce, payload);
            publish.pkid = 7;
            let mut bytes = BytesMut::new();
            publish.write(&mut bytes).unwrap();
            prop_assert_eq!(read(&bytes).unwrap(), Some(Packet::Publish(publish)));
        }
    }
}
