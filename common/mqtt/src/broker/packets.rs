//! Packets from a byte stream.

use bytes::{Buf, BytesMut};
use rumqttc::{Packet, mqttbytes};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::pace::Pace;

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("reading from the client")]
    Io(#[source] std::io::Error),
    #[error("packet is malformed or too large")]
    Malformed(#[source] mqttbytes::Error),
    #[error("packet has flags its type does not allow")]
    Flags,
    #[error("protocol level is not that of MQTT 3.1.1")]
    Version,
}

/// Bytes asked of the socket at once.
const CHUNK: usize = 8 * 1024;
/// What a packet costs besides its bytes, in bytes that take as long.
const PACKET_COST: u64 = 1024;
/// A client that owes as much pays before it is served again, so that the others' turns come soon.
const TURN: u64 = 64 * 1024;

pub(super) struct Packets<'a, R> {
    stream: R,
    buffer: BytesMut,
    max: usize,
    /// In bytes.
    pace: &'a Pace,
    /// Read and not yet taken from the pace.
    owed: u64,
}

impl<R: AsyncRead + Unpin> Packets<'_, R> {
    pub fn new(stream: R, max: usize, pace: &Pace) -> Packets<'_, R> {
        Packets { stream, buffer: BytesMut::new(), max, pace, owed: 0 }
    }

    /// The next packet; `None` if the client closed the connection.
    pub async fn next(&mut self) -> Result<Option<Packet>, ReadError> {
        loop {
            if self.owed >= TURN {
                self.pace.take(std::mem::take(&mut self.owed)).await;
            }
            if let Some(packet) = self.take()? {
                self.owed += PACKET_COST;
                return Ok(Some(packet));
            }
            self.buffer.reserve(CHUNK);
            match self.stream.read_buf(&mut self.buffer).await.map_err(ReadError::Io)? {
                0 => return Ok(None),
                read => self.owed += read as u64,
            }
        }
    }

    fn take(&mut self) -> Result<Option<Packet>, ReadError> {
        // Before the length: a client of another protocol must not be waited for.
        if self.buffer.first().is_some_and(|first| !has_valid_flags(*first)) {
            return Err(ReadError::Flags);
        }
        match mqttbytes::check(self.buffer.iter(), self.max) {
            Ok(_) => {}
            Err(mqttbytes::Error::InsufficientBytes(_)) => return Ok(None),
            Err(error) => return Err(ReadError::Malformed(error)),
        }
        if is_other_version(&self.buffer) {
            return Err(ReadError::Version);
        }
        Packet::read(&mut self.buffer, self.max).map(Some).map_err(ReadError::Malformed)
    }
}

/// The lower half of the first byte (MQTT 3.1.1 table 2.2).
fn has_valid_flags(first: u8) -> bool {
    match first >> 4 {
        3 => true,
        6 | 8 | 10 => first & 0xf == 2,
        _ => first & 0xf == 0,
    }
}

/// True for a CONNECT of MQTT 3.1 or 5, whose fields the codec would misread.
fn is_other_version(frame: &[u8]) -> bool {
    if frame[0] >> 4 != 1 {
        return false;
    }
    // Past the type and the remaining length, whose last byte has no top bit.
    let length_bytes = frame[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let mut body = frame.get(1 + length_bytes..).unwrap_or_default();
    if body.len() < 2 {
        return false;
    }
    let name = usize::from(body.get_u16());
    match (body.get(..name), body.get(name)) {
        (Some(b"MQTT"), Some(level)) => *level != 4,
        (Some(b"MQIsdp"), Some(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rumqttc::{Connect, QoS};

    fn read(bytes: &[u8]) -> Result<Option<Packet>, ReadError> {
        let pace = Pace::new(1, 0);
        let mut packets = Packets::new(tokio::io::empty(), 1024, &pace);
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
