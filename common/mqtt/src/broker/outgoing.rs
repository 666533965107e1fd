//! The writing half of a connection: answers first, then the session's queue.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use rumqttc::{Packet, PubAck, PubComp, PubRec, PubRel, SubAck, SubscribeReasonCode, UnsubAck};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::Shared;
use super::closed::{Closed, Identity};
use super::kept::Message;
use super::session::Out;
use crate::QoS;

/// Bytes written at once, and those of the buffer of a connection that has something to write.
const CHUNK: usize = 64 * 1024;
/// Largest payload that is copied to be written together with others.
const COPIED: usize = 16 * 1024;
/// A client that takes none of our bytes for this long is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// What a client is answered; a [`Packet`] takes several times as much, and every connection has room for many.
pub(super) enum Answer {
    PubAck(u16),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    SubAck(u16, Vec<SubscribeReasonCode>),
    UnsubAck(u16),
    Pong,
}

impl Answer {
    fn put(self, buffer: &mut BytesMut) {
        let packet = match self {
            Answer::PubAck(id) => Packet::PubAck(PubAck::new(id)),
            Answer::PubRec(id) => Packet::PubRec(PubRec::new(id)),
            Answer::PubRel(id) => Packet::PubRel(PubRel::new(id)),
            Answer::PubComp(id) => Packet::PubComp(PubComp::new(id)),
            Answer::SubAck(id, codes) => Packet::SubAck(SubAck::new(id, codes)),
            Answer::UnsubAck(id) => Packet::UnsubAck(UnsubAck::new(id)),
            Answer::Pong => Packet::PingResp,
        };
        encode(&packet, buffer);
    }
}

/// Writes until the connection ends; answers why.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    mut stream: W,
    mut answers: mpsc::Receiver<Answer>,
    identity: &Identity,
    shared: &Shared,
) -> Closed {
    let mut buffer = BytesMut::new();
    loop {
        while buffer.len() < CHUNK
            && let Ok(answer) = answers.try_recv()
        {
            answer.put(&mut buffer);
        }
        let room = CHUNK.saturating_sub(buffer.len());
        let next = shared
            .with(|state| state.session(&identity.client, identity.link).map(|session| session.next(room)));
        let Some(next) = next else { return Closed::TakenOver };
        if let Err(closed) = put(&mut stream, &next, &mut buffer).await {
            return closed;
        }
        drop(next);
        if buffer.is_empty() {
            // A client that is idle costs no buffer.
            buffer = BytesMut::new();
            tokio::select! {
                biased;
                answer = answers.recv() => match answer {
                    Some(answer) => answer.put(&mut buffer),
                    None => return Closed::Ended,
                },
                _ = identity.wake.notified() => {}
            }
            continue;
        }
        if let Err(closed) = send(&mut stream, &mut buffer).await {
            return closed;
        }
    }
}

/// Puts messages into the buffer; large ones go to the client from where they are, so that they are there once for all.
pub(super) async fn put<W: AsyncWrite + Unpin>(
    stream: &mut W,
    next: &[Out],
    buffer: &mut BytesMut,
) -> Result<(), Closed> {
    for out in next {
        match out {
            Out::Release(id) => encode(&Packet::PubRel(PubRel::new(*id)), buffer),
            Out::Message { message, qos, retain, id, again } => {
                put_header(message, Head { qos: *qos, retain: *retain, id: *id, again: *again }, buffer);
                if message.payload.len() <= COPIED {
                    buffer.extend_from_slice(&message.payload);
                } else {
                    send(stream, buffer).await?;
                    write_within(stream, &message.payload).await?;
                }
            }
        }
        if buffer.len() >= CHUNK {
            send(stream, buffer).await?;
        }
    }
    Ok(())
}

struct Head {
    qos: QoS,
    retain: bool,
    id: u16,
    again: bool,
}

/// Everything of a PUBLISH before its payload (MQTT 3.1.1 section 3.3).
fn put_header(message: &Message, head: Head, buffer: &mut BytesMut) {
    let Head { qos, retain, id, again } = head;
    buffer.put_u8(0x30 | u8::from(again) << 3 | (qos as u8) << 1 | u8::from(retain));
    let id_bytes = if qos == QoS::AtMostOnce { 0 } else { 2 };
    let mut left = 2 + message.topic.len() + id_bytes + message.payload.len();
    loop {
        let more = if left > 0x7f { 0x80 } else { 0 };
        buffer.put_u8((left & 0x7f) as u8 | more);
        left >>= 7;
        if left == 0 {
            break;
        }
    }
    buffer.put_u16(message.topic.len() as u16);
    buffer.put_slice(message.topic.as_bytes());
    if id_bytes > 0 {
        buffer.put_u16(id);
    }
}

/// Writes and empties the buffer.
pub(super) async fn send<W: AsyncWrite + Unpin>(stream: &mut W, buffer: &mut BytesMut) -> Result<(), Closed> {
    write_within(stream, buffer).await?;
    buffer.clear();
    Ok(())
}

async fn write_within<W: AsyncWrite + Unpin>(stream: &mut W, bytes: &[u8]) -> Result<(), Closed> {
    match tokio::time::timeout(WRITE_WITHIN, stream.write_all(bytes)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Closed::Ended),
        Err(_) => Err(Closed::Stalled),
    }
}

pub(super) fn encode(packet: &Packet, buffer: &mut BytesMut) {
    let before = buffer.len();
    if let Err(error) = packet.write(buffer, usize::MAX) {
        buffer.truncate(before);
        tracing::warn!(error = %error, "MQTT packet could not be encoded");
    }
}

#[cfg(test)]
mod tests {
    use super::super::kept::Ledger;
    use super::*;
    use bytes::Bytes;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_message_is_written_as_the_codec_writes_it() {
        for (size, qos, again) in [
            (0, QoS::AtMostOnce, false),
            (100, QoS::AtLeastOnce, true),
            (COPIED + 1, QoS::ExactlyOnce, false),
            (300_000, QoS::AtLeastOnce, false),
        ] {
            let payload = Bytes::from(vec![7; size]);
            let message = Message::new("a/b", &payload, &Ledger::default());
            let id = if qos == QoS::AtMostOnce { 0 } else { 258 };
            let out = Out::Message { message: Arc::clone(&message), qos, retain: true, id, again };
            let (mut written, mut buffer) = (Vec::new(), BytesMut::new());
            put(&mut written, &[out, Out::Release(9)], &mut buffer).await.unwrap();
            written.extend_from_slice(&buffer);
            let (topic, dup) = ("a/b".to_owned(), again);
            let publish = rumqttc::Publish { dup, qos, retain: true, topic, pkid: id, payload };
            let mut wanted = BytesMut::new();
            publish.write(&mut wanted).unwrap();
            encode(&Packet::PubRel(PubRel::new(9)), &mut wanted);
            assert!(written == wanted, "{size} bytes, {qos:?}");
        }
    }
}
