//! The events of watches.

use bytes::Bytes;

use super::wire::put_bytes;

/// An event of a watch: a `WatchEvent` with the object in an envelope of its own, and four bytes of length in front.
pub(crate) fn event(kind: &str, object: &[u8]) -> Bytes {
    let mut raw = Vec::with_capacity(object.len() + 8);
    put_bytes(&mut raw, 1, object);
    let mut event = vec![0; 4];
    put_bytes(&mut event, 1, kind.as_bytes());
    put_bytes(&mut event, 2, &raw);
    // A longer one is not made: objects are at most a few megabytes.
    let length = u32::try_from(event.len() - 4).unwrap_or(u32::MAX);
    if let Some(front) = event.first_chunk_mut() {
        *front = length.to_be_bytes();
    }
    event.into()
}
