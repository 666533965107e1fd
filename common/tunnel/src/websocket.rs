//! Frames of a tunnel's WebSocket (RFC 6455). Its messages are any bytes under the opcode of texts, as KubeEdge's are, and libraries
//! that read whole messages refuse texts that are none: so theirs are the heads of frames only.

use std::io::Cursor;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_util::codec::{Decoder, Encoder};

use crate::error::{MESSAGE, SocketError};

/// The largest control frame.
const CONTROL: usize = 125;

/// Which end this is: clients mask what they send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// Something that came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum In {
    Message(Bytes),
    Ping(Bytes),
    Pong,
    Close,
}

/// Something to send.
#[derive(Debug)]
pub(crate) enum Out {
    Message(Vec<u8>),
    Ping(Bytes),
    Pong(Bytes),
    Close,
}

/// One end's frames, either way.
#[derive(Debug)]
pub(crate) struct Codec {
    role: Role,
    /// What came of a message that is sent in pieces.
    begun: Option<BytesMut>,
}

impl Codec {
    pub(crate) fn new(role: Role) -> Codec {
        Codec { role, begun: None }
    }

    /// The payload of the frame that is complete in `bytes`, with its head.
    fn frame(&self, bytes: &mut BytesMut) -> Result<Option<(FrameHeader, BytesMut)>, SocketError> {
        let mut cursor = Cursor::new(&bytes[..]);
        let head = FrameHeader::parse(&mut cursor).map_err(|_| SocketError::Protocol("an unknown opcode"))?;
        let Some((head, length)) = head else { return Ok(None) };
        let at = cursor.position() as usize;
        let room = MESSAGE - self.begun.as_ref().map_or(0, BytesMut::len);
        let length = usize::try_from(length).ok().filter(|length| *length <= room);
        let length = length.ok_or(SocketError::TooLong)?;
        if head.rsv1 || head.rsv2 || head.rsv3 {
            return Err(SocketError::Protocol("an extension nobody agreed to"));
        }
        if head.mask.is_some() != (self.role == Role::Server) {
            return Err(SocketError::Protocol("a client masks its frames and a server does not"));
        }
        if matches!(head.opcode, OpCode::Control(_)) && (length > CONTROL || !head.is_final) {
            return Err(SocketError::Protocol("a control frame that is too long or in pieces"));
        }
        if bytes.len() < at + length {
            return Ok(None);
        }
        bytes.advance(at);
        let mut payload = bytes.split_to(length);
        if let Some(key) = head.mask {
            mask(&mut payload, key);
        }
        Ok(Some((head, payload)))
    }

    /// A piece of a message, or all of it.
    fn piece(&mut self, payload: BytesMut, is_final: bool) -> Option<In> {
        let whole = match self.begun.take() {
            None => payload,
            Some(mut begun) => {
                begun.extend_from_slice(&payload);
                begun
            }
        };
        if is_final {
            return Some(In::Message(whole.freeze()));
        }
        self.begun = Some(whole);
        None
    }
}

impl Decoder for Codec {
    type Item = In;
    type Error = SocketError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<In>, SocketError> {
        while let Some((head, payload)) = self.frame(bytes)? {
            match head.opcode {
                OpCode::Control(Control::Close) => return Ok(Some(In::Close)),
                OpCode::Control(Control::Ping) => return Ok(Some(In::Ping(payload.freeze()))),
                OpCode::Control(_) => return Ok(Some(In::Pong)),
                OpCode::Data(data) => {
                    if matches!(data, Data::Continue) != self.begun.is_some() {
                        return Err(SocketError::Protocol("pieces of two messages in one"));
                    }
                    if let Some(message) = self.piece(payload, head.is_final) {
                        return Ok(Some(message));
                    }
                }
            }
        }
        Ok(None)
    }
}

impl Encoder<Out> for Codec {
    type Error = SocketError;

    fn encode(&mut self, out: Out, to: &mut BytesMut) -> Result<(), SocketError> {
        let (opcode, payload) = match out {
            Out::Message(bytes) => (OpCode::Data(Data::Text), Bytes::from(bytes)),
            Out::Ping(bytes) => (OpCode::Control(Control::Ping), bytes),
            Out::Pong(bytes) => (OpCode::Control(Control::Pong), bytes),
            // 1000: it is over, as it should be.
            Out::Close => (OpCode::Control(Control::Close), Bytes::from_static(&[0x03, 0xe8])),
        };
        let key = (self.role == Role::Client).then(rand::random::<[u8; 4]>);
        let head = FrameHeader { is_final: true, opcode, mask: key, ..FrameHeader::default() };
        let write = head.format(payload.len() as u64, &mut to.writer());
        write.map_err(|_| SocketError::TooLong)?;
        let at = to.len();
        to.extend_from_slice(&payload);
        if let (Some(key), Some(sent)) = (key, to.get_mut(at..)) {
            mask(sent, key);
        }
        Ok(())
    }
}

/// Masks, or takes the mask off.
fn mask(bytes: &mut [u8], key: [u8; 4]) {
    bytes.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(role: Role, bytes: &[u8]) -> Result<Vec<In>, SocketError> {
        let (mut codec, mut bytes, mut all) = (Codec::new(role), BytesMut::from(bytes), Vec::new());
        while let Some(item) = codec.decode(&mut bytes)? {
            all.push(item);
        }
        Ok(all)
    }

    fn message(bytes: &[u8]) -> In {
        In::Message(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn texts_that_are_none_are_messages() {
        assert_eq!(decode(Role::Client, b"\x81\x02\xff\x00").unwrap(), [message(b"\xff\x00")]);
        assert_eq!(decode(Role::Client, b"\x82\x01a\x8a\x00").unwrap(), [message(b"a"), In::Pong]);
        let in_pieces = b"\x01\x01a\x89\x01p\x00\x01b\x80\x01c\x88\x00";
        let expected = [In::Ping(Bytes::from_static(b"p")), message(b"abc"), In::Close];
        assert_eq!(decode(Role::Client, in_pieces).unwrap(), expected);
    }

    #[test]
    fn what_one_end_sends_the_other_reads_however_it_is_cut() {
        let long: Vec<u8> = (0..70_000).map(|at| (at % 253) as u8).collect();
        for (sends, reads) in [(Role::Client, Role::Server), (Role::Server, Role::Client)] {
            let (mut sender, mut wire) = (Codec::new(sends), BytesMut::new());
            for bytes in [&b"\xff"[..], &long[..200], &long] {
                sender.encode(Out::Message(bytes.to_vec()), &mut wire).unwrap();
            }
            sender.encode(Out::Ping(Bytes::from_static(b"are you")), &mut wire).unwrap();
            sender.encode(Out::Close, &mut wire).unwrap();
            let (mut reader, mut come, mut all) = (Codec::new(reads), BytesMut::new(), Vec::new());
            for part in wire.chunks(977) {
                come.extend_from_slice(part);
                while let Some(item) = reader.decode(&mut come).unwrap() {
                    all.push(item);
                }
            }
            let ping = In::Ping(Bytes::from_static(b"are you"));
            assert_eq!(all, [message(b"\xff"), message(&long[..200]), message(&long), ping, In::Close]);
        }
    }

    #[test]
    fn what_no_websocket_sends_is_an_error() {
        for (role, bytes) in [
            (Role::Server, &b"\x81\x01a"[..]),
            (Role::Client, b"\x81\x81\x01\x02\x03\x04a"),
            (Role::Client, b"\xc1\x01a"),
            (Role::Client, b"\x83\x00"),
            (Role::Client, b"\x80\x00"),
            (Role::Client, b"\x01\x00\x01\x00"),
            (Role::Client, b"\x09\x00"),
            (Role::Client, b"\x89\x7e\x00\x7e"),
        ] {
            assert!(matches!(decode(role, bytes), Err(SocketError::Protocol(_))), "{bytes:02x?}");
        }
        for length in [MESSAGE as u64 + 1, u64::MAX] {
            let bytes = [&[0x81, 127][..], &length.to_be_bytes()].concat();
            assert!(matches!(decode(Role::Client, &bytes), Err(SocketError::TooLong)), "{length}");
        }
    }
}
