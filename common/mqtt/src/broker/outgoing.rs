//! The writing half of a connection: answers first, then the session's queue.

use std::time::Duration;

use bytes::BytesMut;
use rumqttc::Packet;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::Shared;
use super::connection::{Closed, Identity};

/// Bytes written at once, and the buffer kept per connection.
const CHUNK: usize = 64 * 1024;
/// A client that takes none of our bytes for this long is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// Writes until the connection ends; answers why.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    mut stream: W,
    mut answers: mpsc::Receiver<Packet>,
    identity: &Identity,
    shared: &Shared,
) -> Closed {
    let mut buffer = BytesMut::with_capacity(CHUNK);
    loop {
        while buffer.len() < CHUNK
            && let Ok(answer) = answers.try_recv()
        {
            encode(&answer, &mut buffer);
        }
        let room = CHUNK.saturating_sub(buffer.len());
        let queued = shared
            .with(|state| state.session(&identity.client, identity.link).map(|session| session.next(room)));
        let Some(queued) = queued else { return Closed::TakenOver };
        for packet in &queued {
            encode(packet, &mut buffer);
        }
        if buffer.is_empty() {
            tokio::select! {
                biased;
                answer = answers.recv() => match answer {
                    Some(answer) => encode(&answer, &mut buffer),
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

/// Writes and empties the buffer.
pub(super) async fn send<W: AsyncWrite + Unpin>(stream: &mut W, buffer: &mut BytesMut) -> Result<(), Closed> {
    match tokio::time::timeout(WRITE_WITHIN, stream.write_all(buffer)).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return Err(Closed::Ended),
        Err(_) => return Err(Closed::Stalled),
    }
    // One large message must not keep its memory for the life of the connection.
    if buffer.capacity() > 2 * CHUNK {
        *buffer = BytesMut::with_capacity(CHUNK);
    }
    buffer.clear();
    Ok(())
}

pub(super) fn encode(packet: &Packet, buffer: &mut BytesMut) {
    let before = buffer.len();
    if let Err(error) = packet.write(buffer, usize::MAX) {
        buffer.truncate(before);
        tracing::warn!(error = %error, "MQTT packet could not be encoded");
    }
}
