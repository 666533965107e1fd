//! One message of the tunnel (docs/protocol/transport.md 6.2).

use bytes::Bytes;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Cloud to edge: a connection for container logs.
    Logs,
    /// Cloud to edge: a connection for a command, which is upgraded.
    Exec,
    /// Cloud to edge: a connection for anything that is answered by a text.
    Metrics,
    Data,
    /// The sender is done with the connection.
    Remove,
    /// Cloud to edge: the whole tunnel is to end; the data is the reason.
    Close,
    /// Cloud to edge: a connection to a running container, which is upgraded.
    Attach,
}

impl Kind {
    const ALL: [Kind; 7] =
        [Kind::Logs, Kind::Exec, Kind::Metrics, Kind::Data, Kind::Remove, Kind::Close, Kind::Attach];

    fn number(self) -> u64 {
        Kind::ALL.iter().position(|kind| *kind == self).unwrap_or_default() as u64
    }
}

/// A message: `uvarint(connection) uvarint(kind) data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Chosen by the cloud; 0 where the message is about the tunnel.
    pub connection: u64,
    pub kind: Kind,
    pub data: Bytes,
}

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a message of the tunnel without a whole head")]
    Head,
    #[error("a message of the tunnel of the unknown kind {0}")]
    Kind(u64),
}

impl Frame {
    pub fn new(connection: u64, kind: Kind, data: impl Into<Bytes>) -> Frame {
        Frame { connection, kind, data: data.into() }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.data.len() + 8);
        put_uvarint(&mut bytes, self.connection);
        put_uvarint(&mut bytes, self.kind.number());
        bytes.extend_from_slice(&self.data);
        bytes
    }

    /// # Errors
    /// [`FrameError`]: the head is cut short or too long, or of a kind nobody knows.
    pub fn decode(mut bytes: Bytes) -> Result<Frame, FrameError> {
        let connection = take_uvarint(&mut bytes).ok_or(FrameError::Head)?;
        let number = take_uvarint(&mut bytes).ok_or(FrameError::Head)?;
        let known = usize::try_from(number).ok().and_then(|at| Kind::ALL.get(at));
        let kind = *known.ok_or(FrameError::Kind(number))?;
        Ok(Frame { connection, kind, data: bytes })
    }
}

/// Seven bits a byte, lowest first; all but the last have the highest bit set.
fn put_uvarint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_uvarint(bytes: &mut Bytes) -> Option<u64> {
    let mut value = 0u64;
    for at in 0..10 {
        let byte = *bytes.get(at)?;
        let part = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        value |= part.checked_shl(7 * at as u32).filter(|shifted| shifted >> (7 * at) == part)?;
        if byte < 0x80 {
            let _head = bytes.split_to(at + 1);
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_what_go_writes() {
        let data = Frame::new(5, Kind::Data, &b"hello\n"[..]);
        assert_eq!(data.encode(), [0x05, 0x03, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x0a]);
        assert_eq!(Frame::new(300, Kind::Remove, Bytes::new()).encode(), [0xac, 0x02, 0x04]);
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            for connection in [0, 1, 127, 128, 300, u64::MAX] {
                let frame = Frame::new(connection, kind, &b"\xff\x00"[..]);
                assert_eq!(Frame::decode(frame.encode().into()), Ok(frame.clone()));
                assert_eq!(frame.kind.number(), number as u64);
            }
        }
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for (bytes, error) in [
            (&b""[..], FrameError::Head),
            (b"\x05", FrameError::Head),
            (b"\x80", FrameError::Head),
            (b"\x01\x07", FrameError::Kind(7)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x03", FrameError::Head),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x03", FrameError::Head),
        ] {
            assert_eq!(Frame::decode(Bytes::copy_from_slice(bytes)), Err(error), "{bytes:02x?}");
        }
    }
}
