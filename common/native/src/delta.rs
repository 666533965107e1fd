//! The difference between two texts of one object: zstd with the older text as dictionary, so that only what changed
//! crosses the link, and the result is the newer text to the byte.

use std::io;

use xxhash_rust::xxh3::xxh3_64;
use zstd::bulk::{Compressor, Decompressor};

use crate::MAX_FRAME_BYTES;
use crate::frames::Delta;

/// Level of differences: objects are a few KiB.
const LEVEL: i32 = 3;

/// Shorter objects are sent whole: the compressed frame is as small.
const WORTHWHILE: usize = 512;

#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    #[error("the difference was made against another text")]
    OtherBase,
    #[error("a difference may not make more than {MAX_FRAME_BYTES} bytes, not {size}")]
    TooLarge { size: usize },
    #[error("the difference cannot be applied")]
    Broken(#[source] io::Error),
    #[error("the difference does not make readable text")]
    NotText,
}

/// Names a text.
pub fn text_hash(text: &str) -> u64 {
    xxh3_64(text.as_bytes())
}

/// How to make `new` of `base`; `None` when sending it whole is as good.
pub fn difference(base: &str, new: &str) -> Option<Delta> {
    if new.len() < WORTHWHILE || base.len() < WORTHWHILE {
        return None;
    }
    let patch = Compressor::with_dictionary(LEVEL, base.as_bytes()).ok()?.compress(new.as_bytes()).ok()?;
    if patch.len() * 4 > new.len() {
        return None;
    }
    Some(Delta { base_hash: text_hash(base), size: u32::try_from(new.len()).ok()?, patch })
}

/// The newer text.
///
/// # Errors
/// [`DeltaError`]: the difference was made against another text, does not apply, or makes too much or nothing
/// readable.
pub fn apply(base: &str, delta: &Delta) -> Result<String, DeltaError> {
    if text_hash(base) != delta.base_hash {
        return Err(DeltaError::OtherBase);
    }
    let size = delta.size as usize;
    if size > MAX_FRAME_BYTES {
        return Err(DeltaError::TooLarge { size });
    }
    let text = Decompressor::with_dictionary(base.as_bytes())
        .and_then(|mut context| context.decompress(&delta.patch, size))
        .map_err(DeltaError::Broken)?;
    String::from_utf8(text).map_err(|_| DeltaError::NotText)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: u32) -> String {
        let rows: Vec<String> = (0..200).map(|n| format!("\"key-{n}\":\"value {}\"", n * 7919)).collect();
        format!("{{\"version\":{version},\"data\":{{{}}}}}", rows.join(","))
    }

    #[test]
    fn a_small_change_of_a_large_object_is_a_small_difference() {
        let (old, new) = (object(1), object(2));
        let delta = difference(&old, &new).unwrap();
        assert!(delta.patch.len() < 64, "{}", delta.patch.len());
        assert_eq!(apply(&old, &delta).unwrap(), new);
        assert!(matches!(apply(&new, &delta), Err(DeltaError::OtherBase)));
    }

    #[test]
    fn a_difference_that_claims_or_makes_too_much_is_refused() {
        let old = object(1);
        let bomb = Compressor::with_dictionary(3, old.as_bytes()).unwrap().compress(&vec![b'x'; 20_000_000]);
        let mut delta = Delta { base_hash: text_hash(&old), size: 1000, patch: bomb.unwrap() };
        assert!(matches!(apply(&old, &delta), Err(DeltaError::Broken(_))));
        delta.size = u32::MAX;
        assert!(matches!(apply(&old, &delta), Err(DeltaError::TooLarge { .. })));
    }

    #[test]
    fn different_objects_are_not_worth_a_difference() {
        let mut state = 1_u64;
        let mut letter = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'a' + (state >> 33) as u8 % 26)
        };
        let noise: String = (0..2000).map(|_| letter()).collect();
        assert!(difference(&object(1), &noise).is_none());
        assert!(difference("{}", "{\"a\":1}").is_none());
    }
}
