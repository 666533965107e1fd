//! Compression of a stream, piece by piece with what went before kept in sight. It ends where it does not pay.

use std::io;

use zstd::stream::raw::{CParameter, DParameter, Decoder, Encoder, InBuffer, Operation, OutBuffer};

use crate::CHUNK;

/// Fast: links are thin, but so are the processors of edges.
const LEVEL: i32 = 1;
/// Pieces that are shorter, at the beginning of a stream, are not worth an encoder.
const SHORT: usize = 64;
/// Pieces of this size are part of something large.
const LARGE: usize = CHUNK / 2;
/// Something large is over when so many pieces in a row were smaller.
const SMALL_PIECES: u32 = 16;
/// A piece that is still longer than so many of 100 of its bytes was poor; after so many in a row, packing ends.
const POOR: usize = 90;
const POOR_PIECES: u32 = 4;

/// By so much a piece may get longer: the head of the stream and of a block that could not be made shorter.
pub(crate) const SLACK: usize = 64;

/// How much of what went before counts. Both ends hold several times as much for each stream, for as long as it is open: most
/// streams are watches, on which little happens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// For lines of a log and events of a watch: 16 KiB, for which both ends hold 150 KiB each.
    Near,
    /// For lists, files and images: 128 KiB, for which the ends hold 950 and 600 KiB.
    Far,
}

impl Sight {
    /// Bytes that count, as a power of two.
    fn window_log(self) -> u32 {
        match self {
            Sight::Near => 14,
            Sight::Far => 17,
        }
    }

    /// Places in the table of what was seen, as a power of two.
    fn hash_log(self) -> u32 {
        match self {
            Sight::Near => 12,
            Sight::Far => 14,
        }
    }

    fn of(piece: &[u8]) -> Sight {
        if piece.len() >= LARGE { Sight::Far } else { Sight::Near }
    }
}

/// Packs what goes out.
#[derive(Default)]
pub(crate) struct Packer {
    state: Packing,
}

#[derive(Default)]
enum Packing {
    /// Nothing was worth it yet.
    #[default]
    Waiting,
    Packs {
        encoder: Box<Encoder<'static>>,
        sight: Sight,
        /// Poor pieces in a row.
        poor: u32,
        /// Small pieces in a row.
        small: u32,
    },
    /// It does not pay.
    Over,
}

impl Packer {
    /// The packed piece, or `None`: it goes as it is. What was packed has to be sent, as later pieces build on it.
    pub(crate) fn pack(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        if matches!(self.state, Packing::Waiting) && piece.len() >= SHORT {
            self.state = begin(Sight::of(piece));
        }
        let Packing::Packs { encoder, sight, poor, small } = &mut self.state else { return None };
        let wanted = Sight::of(piece);
        *small = if wanted == Sight::Near { *small + 1 } else { 0 };
        let changes = wanted != *sight && (wanted == Sight::Far || *small >= SMALL_PIECES);
        // The last piece that is packed by this encoder says so.
        let Ok(packed) = packed(encoder, piece, changes) else {
            // The other end has what was sent before and is told of nothing more.
            self.state = Packing::Over;
            return None;
        };
        *poor = if packed.len() * 100 > piece.len() * POOR { *poor + 1 } else { 0 };
        if *poor >= POOR_PIECES {
            self.state = Packing::Over;
        } else if changes {
            self.state = begin(wanted);
        }
        Some(packed)
    }
}

fn begin(sight: Sight) -> Packing {
    match encoder(sight) {
        Ok(encoder) => Packing::Packs { encoder: Box::new(encoder), sight, poor: 0, small: 0 },
        Err(_) => Packing::Over,
    }
}

fn encoder(sight: Sight) -> io::Result<Encoder<'static>> {
    let mut encoder = Encoder::new(LEVEL)?;
    encoder.set_parameter(CParameter::WindowLog(sight.window_log()))?;
    encoder.set_parameter(CParameter::HashLog(sight.hash_log()))?;
    encoder.set_parameter(CParameter::ContentSizeFlag(false))?;
    encoder.set_parameter(CParameter::ChecksumFlag(false))?;
    Ok(encoder)
}

/// The piece as the other end unpacks it; with `is_last`, the end of what this encoder packs as well.
fn packed(encoder: &mut Encoder<'static>, piece: &[u8], is_last: bool) -> io::Result<Vec<u8>> {
    let mut out = vec![0; piece.len() + SLACK];
    let mut output = OutBuffer::around(out.as_mut_slice());
    let mut input = InBuffer::around(piece);
    while input.pos() < piece.len() {
        let before = (input.pos(), output.pos());
        encoder.run(&mut input, &mut output)?;
        if (input.pos(), output.pos()) == before {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    while (if is_last { encoder.finish(&mut output, true)? } else { encoder.flush(&mut output)? }) > 0 {
        if output.pos() == output.capacity() {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    let length = output.pos();
    out.truncate(length);
    Ok(out)
}

/// Unpacks what comes in.
#[derive(Default)]
pub(crate) struct Unpacker {
    decoder: Option<Box<Decoder<'static>>>,
}

impl Unpacker {
    /// The piece, of at most [`CHUNK`] bytes.
    ///
    /// # Errors
    /// It was packed by nobody, or is longer.
    pub(crate) fn unpack(&mut self, packed: &[u8]) -> io::Result<Vec<u8>> {
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            None => {
                let mut decoder = Decoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(Sight::Far.window_log()))?;
                self.decoder.insert(Box::new(decoder))
            }
        };
        let too_long = || io::Error::new(io::ErrorKind::InvalidData, "a packed piece is too long");
        // One more than there may be shows that there is more.
        let mut out = vec![0; CHUNK + 1];
        let mut output = OutBuffer::around(out.as_mut_slice());
        let mut input = InBuffer::around(packed);
        loop {
            let before = (input.pos(), output.pos());
            let is_end = decoder.run(&mut input, &mut output)? == 0;
            if output.pos() > CHUNK {
                return Err(too_long());
            }
            if is_end && input.pos() == packed.len() {
                // What follows is packed by another encoder, which may need less.
                self.decoder = None;
                break;
            }
            if input.pos() == packed.len() && output.pos() == before.1 {
                break;
            }
            if (input.pos(), output.pos()) == before {
                return Err(too_long());
            }
        }
        let length = output.pos();
        out.truncate(length);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: usize) -> Vec<u8> {
        (0..lines)
            .flat_map(|line| {
                format!(
                    "2026-11-30T10:00:{:02}.{line:06}Z kubelet[811]: I1130 syncing pod default/web-{}\n",
                    line % 60,
                    line % 7
                )
                .into_bytes()
            })
            .collect()
    }

    #[test]
    fn what_is_packed_comes_out_and_logs_get_small() {
        let (mut packer, mut unpacker, text) = (Packer::default(), Unpacker::default(), log(20_000));
        let mut sent = 0;
        for piece in text.chunks(CHUNK) {
            let packed = packer.pack(piece).unwrap();
            sent += packed.len();
            assert_eq!(unpacker.unpack(&packed).unwrap(), piece);
        }
        assert!(sent * 5 < text.len(), "{sent} of {}", text.len());
    }

    #[test]
    fn short_lines_build_on_those_before() {
        let (mut packer, mut unpacker, text) = (Packer::default(), Unpacker::default(), log(500));
        let mut sent = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let packed = packer.pack(line).unwrap();
            sent += packed.len();
            assert_eq!(unpacker.unpack(&packed).unwrap(), line);
        }
        assert!(sent * 2 < text.len(), "{sent} of {}", text.len());
    }

    /// A watch: a list, then an event now and then, a list again.
    #[test]
    fn what_is_held_follows_the_size_of_what_is_sent() {
        let (mut packer, mut unpacker, text) = (Packer::default(), Unpacker::default(), log(4000));
        let mut sights = Vec::new();
        let mut send = |piece: &[u8]| {
            let packed = packer.pack(piece).unwrap();
            assert_eq!(unpacker.unpack(&packed).unwrap(), piece);
            let Packing::Packs { sight, .. } = &packer.state else { panic!("packing ended") };
            // An encoder begins with a decoder that is new.
            (*sight == Sight::Far, unpacker.decoder.is_some())
        };
        let (head, list) = text.split_at(300);
        sights.push(send(head));
        sights.extend(list.chunks(CHUNK).take(3).map(&mut send));
        sights.extend(list.chunks(200).take(SMALL_PIECES as usize + 1).map(&mut send));
        sights.extend(list.chunks(CHUNK).take(2).map(&mut send));
        let mut expected = vec![(false, true), (true, false), (true, true), (true, true)];
        expected.extend(vec![(true, true); SMALL_PIECES as usize - 1]);
        expected.extend([(false, false), (false, true), (true, false), (true, true)]);
        assert_eq!(sights, expected);
    }

    #[test]
    fn what_does_not_get_smaller_goes_as_it_is_soon() {
        let mut packer = Packer::default();
        let mut state = 1u64;
        let mut noise = || {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            };
            (0..CHUNK).map(|_| next()).collect::<Vec<u8>>()
        };
        let packed = (0..20).filter(|_| packer.pack(&noise()).is_some()).count();
        assert_eq!(packed, POOR_PIECES as usize);
        assert!(Packer::default().pack(b"a key").is_none());
    }

    #[test]
    fn a_piece_that_is_none_or_swells_is_refused_in_bounded_memory() {
        assert!(Unpacker::default().unpack(b"not packed at all, whoever sent it").is_err());
        let bomb = zstd::bulk::compress(&vec![0; 64 * 1024 * 1024], 1).unwrap();
        assert!(Unpacker::default().unpack(&bomb).is_err());
        assert_eq!(Unpacker::default().unpack(b"").unwrap(), b"");
    }
}
