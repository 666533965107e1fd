//! zstd with the trained dictionary of this dialect.
//!
//! The dictionary is part of the protocol: another one is another encoding number. It is trained on the envelopes and
//! objects that cross the link all day (`cargo xtask dictionary`).

use std::io;
use std::sync::{LazyLock, Mutex, PoisonError};

use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};

/// The trained dictionary.
pub const TEXT: &[u8] = include_bytes!("../dictionary/1.zdict");

/// Fast and small tables; a higher level gains a few per cent on frames this short.
const LEVEL: i32 = 3;

/// Working memory kept for the next frame. More threads than this make and drop their own.
const KEPT: usize = 2;

static ENCODER: LazyLock<EncoderDictionary<'static>> = LazyLock::new(|| EncoderDictionary::copy(TEXT, LEVEL));
static DECODER: LazyLock<DecoderDictionary<'static>> = LazyLock::new(|| DecoderDictionary::copy(TEXT));
static COMPRESSORS: Mutex<Vec<Compressor<'static>>> = Mutex::new(Vec::new());
static DECOMPRESSORS: Mutex<Vec<Decompressor<'static>>> = Mutex::new(Vec::new());

fn lend<T>(kept: &Mutex<Vec<T>>, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let found = kept.lock().unwrap_or_else(PoisonError::into_inner).pop();
    found.map_or_else(make, Ok)
}

fn give_back<T>(kept: &Mutex<Vec<T>>, context: T) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < KEPT {
        kept.push(context);
    }
}

pub(crate) fn compress(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut context = lend(&COMPRESSORS, || {
        let mut context = Compressor::with_prepared_dictionary(&ENCODER)?;
        // Both ends know dictionary and length.
        context.set_parameter(zstd::zstd_safe::CParameter::DictIdFlag(false))?;
        context.set_parameter(zstd::zstd_safe::CParameter::ContentSizeFlag(false))?;
        Ok(context)
    })?;
    let packed = context.compress(plain);
    give_back(&COMPRESSORS, context);
    packed
}

/// At most `limit` bytes; more is an error.
pub(crate) fn decompress(packed: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let mut context = lend(&DECOMPRESSORS, || Decompressor::with_prepared_dictionary(&DECODER))?;
    let plain = context.decompress(packed, limit);
    give_back(&DECOMPRESSORS, context);
    plain
}

/// Makes a dictionary of at most `size` bytes from samples.
///
/// # Errors
/// The samples are too few or too much alike to make one.
#[cfg(feature = "train")]
pub fn train(samples: &[Vec<u8>], size: usize) -> io::Result<Vec<u8>> {
    zstd::dict::from_samples(samples, size)
}
