//! Frames to bytes and back.

use std::io;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use crate::frames::{Frame, frame::Body};
use crate::{MAX_FRAME_BYTES, dictionary};

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("frame is empty")]
    Empty,
    #[error("frame of {size} bytes is larger than the limit of {MAX_FRAME_BYTES}")]
    TooLarge { size: usize },
    #[error("frame has the unknown encoding {0}")]
    Encoding(u8),
    #[error("frame does not decompress to the {claimed} bytes it claims")]
    Compression { claimed: usize, source: Option<io::Error> },
    #[error("frame is not readable")]
    Body(#[source] prost::DecodeError),
    #[error("frame has no body this version knows")]
    Unknown,
}

const PLAIN: u8 = 0;
const ZSTD_1: u8 = 1;

/// Shorter frames do not get smaller.
const COMPRESS_FROM: usize = 96;

/// One frame as bytes, compressed when that makes it smaller. Frames of streams never are: each stream packs its own data, where
/// that pays.
pub fn encode(body: Body) -> Vec<u8> {
    let is_packed = matches!(body, Body::Stream(_));
    let frame = Frame { body: Some(body) };
    let size = frame.encoded_len();
    let mut plain = Vec::with_capacity(size + 1);
    plain.push(PLAIN);
    // A vector grows as needed: encoding into it cannot fail.
    let _ = frame.encode(&mut plain);
    if is_packed || size < COMPRESS_FROM {
        return plain;
    }
    let Ok(packed) = dictionary::compress(&plain[1..]) else { return plain };
    let mut out = Vec::with_capacity(packed.len() + 6);
    out.push(ZSTD_1);
    prost::encoding::encode_varint(size as u64, &mut out);
    out.extend_from_slice(&packed);
    if out.len() < plain.len() { out } else { plain }
}

/// Reads one frame. Never allocates more than [`MAX_FRAME_BYTES`] for its plain form.
///
/// # Errors
/// [`FrameError`]: the frame is empty, larger than [`MAX_FRAME_BYTES`], does not decompress to what it claims, or has
/// no body that this version knows.
pub fn decode(bytes: &[u8]) -> Result<Body, FrameError> {
    let (&encoding, rest) = bytes.split_first().ok_or(FrameError::Empty)?;
    if rest.len() > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge { size: rest.len() });
    }
    let frame = match encoding {
        PLAIN => Frame::decode(rest),
        ZSTD_1 => {
            let mut packed = rest;
            let claimed = prost::encoding::decode_varint(&mut packed).map_err(FrameError::Body)?;
            let claimed = usize::try_from(claimed).unwrap_or(usize::MAX);
            if claimed > MAX_FRAME_BYTES {
                return Err(FrameError::TooLarge { size: claimed });
            }
            let plain = dictionary::decompress(packed, claimed)
                .map_err(|source| FrameError::Compression { claimed, source: Some(source) })?;
            if plain.len() != claimed {
                return Err(FrameError::Compression { claimed, source: None });
            }
            Frame::decode(plain.as_slice())
        }
        other => return Err(FrameError::Encoding(other)),
    };
    frame.map_err(FrameError::Body)?.body.ok_or(FrameError::Unknown)
}

/// Bytes a frame says it has in its plain form; [`decode`] holds it to that. What cannot be a frame has its own size.
pub fn unpacked_size(bytes: &[u8]) -> usize {
    let claimed = match bytes.split_first() {
        Some((&ZSTD_1, mut packed)) => prost::encoding::decode_varint(&mut packed).ok(),
        _ => None,
    };
    let claimed = claimed.and_then(|claimed| usize::try_from(claimed).ok());
    claimed.filter(|claimed| *claimed <= MAX_FRAME_BYTES).unwrap_or(bytes.len())
}

/// Takes the next whole frame off a stream of frames, each behind its length (32 bit, big endian). `None` while it is not
/// complete. A length beyond the limit is refused before anything is kept for it.
///
/// # Errors
/// [`FrameError`]: the length is beyond the limit.
pub fn split(stream: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
    let Some(head) = stream.first_chunk::<4>() else { return Ok(None) };
    let size = u32::from_be_bytes(*head) as usize;
    if size > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge { size });
    }
    if stream.len() < 4 + size {
        return Ok(None);
    }
    let mut frame = stream.split_to(4 + size);
    Ok(Some(frame.split_off(4).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Envelope, Row, Submit};
    use proptest::prelude::*;

    fn submit(text: &str) -> Body {
        Body::Submit(Submit { rows: vec![Row { seq: 7, envelope: text.as_bytes().to_vec() }] })
    }

    #[test]
    fn a_long_frame_is_sent_smaller_and_reads_back_the_same() {
        let body = submit(&"{\"metadata\":{\"name\":\"x\"}}".repeat(100));
        let bytes = encode(body.clone());
        assert_eq!(bytes[0], ZSTD_1);
        assert!(bytes.len() < 400, "{}", bytes.len());
        assert!(unpacked_size(&bytes) > 2400, "{}", unpacked_size(&bytes));
        assert_eq!(decode(&bytes).unwrap(), body);
        let short = encode(Body::Call(Envelope { json: vec![1], delta: None }));
        assert_eq!(short[0], PLAIN);
        assert_eq!(unpacked_size(&short), short.len());
    }

    #[test]
    fn frames_of_streams_are_sent_as_they_are() {
        let what = Some(crate::frames::stream_frame::What::Data(vec![b'x'; 4096]));
        let body = Body::Stream(crate::frames::StreamFrame { id: 1, what });
        let bytes = encode(body.clone());
        assert_eq!(bytes[0], PLAIN);
        assert_eq!(decode(&bytes).unwrap(), body);
    }

    #[test]
    fn a_frame_that_unpacks_to_more_than_it_claims_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0; 64 * 1024 * 1024], 3).unwrap();
        for claimed in [10_u64, MAX_FRAME_BYTES as u64, u64::MAX] {
            let mut bytes = vec![ZSTD_1];
            prost::encoding::encode_varint(claimed, &mut bytes);
            bytes.extend_from_slice(&bomb);
            assert!(matches!(
                decode(&bytes),
                Err(FrameError::Compression { .. } | FrameError::TooLarge { .. })
            ));
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = decode(&bytes);
            let mut packed = vec![ZSTD_1];
            packed.extend(&bytes);
            let _ = decode(&packed);
        }

        #[test]
        fn what_is_encoded_is_decoded(text in "\\PC{0,4000}") {
            let body = submit(&text);
            prop_assert_eq!(decode(&encode(body.clone())).unwrap(), body);
        }
    }
}
