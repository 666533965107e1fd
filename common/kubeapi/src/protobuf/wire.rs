//! The encoding of Protobuf: tags, numbers, and what has a length.

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
    /// The deprecated form of a message in a message; nothing reads what is in it.
    Group,
}

/// A message that ends in the middle of a field, or has a field as no encoder writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is cut short or is no Protobuf")]
pub(super) struct Broken;

/// The fields of a message, as they come.
pub(super) struct Parts<'a>(pub(super) &'a [u8]);

/// Most groups in one another.
const GROUPS: usize = 16;

impl<'a> Parts<'a> {
    /// The next field: its number and value.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Wire<'a>)>, Broken> {
        if self.0.is_empty() {
            return Ok(None);
        }
        self.part(GROUPS).map(Some)
    }

    fn part(&mut self, groups: usize) -> Result<(u64, Wire<'a>), Broken> {
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 {
            return Err(Broken);
        }
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Broken)?;
                Wire::Bytes(self.take(length)?)
            }
            3 => self.group(number, groups)?,
            5 => Wire::Fixed32(u32::from_le_bytes(self.fixed()?)),
            _ => return Err(Broken),
        };
        Ok((number, wire))
    }

    fn group(&mut self, number: u64, groups: usize) -> Result<Wire<'a>, Broken> {
        let deeper = groups.checked_sub(1).ok_or(Broken)?;
        loop {
            let before = self.0;
            let tag = self.varint()?;
            if tag & 7 == 4 {
                return if tag >> 3 == number { Ok(Wire::Group) } else { Err(Broken) };
            }
            self.0 = before;
            self.part(deeper)?;
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Broken> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Broken)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Broken)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(super) fn varint(&mut self) -> Result<u64, Broken> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(Broken)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Broken)
    }
}

/// Wire types that are written.
pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const BYTES: u8 = 2;

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        // Cut off on purpose: seven bits and the mark that more come.
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_tag(out: &mut Vec<u8>, number: u8, wire: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire));
}

/// Tag and length of what follows.
pub(super) fn put_head(out: &mut Vec<u8>, number: u8, length: usize) {
    put_tag(out, number, BYTES);
    put_varint(out, length as u64);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    put_head(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

/// Puts tag and length in front of what was written since `start`.
pub(super) fn wrap(out: &mut Vec<u8>, start: usize, number: u8) {
    let end = out.len();
    put_head(out, number, end - start);
    let head = out.len() - end;
    if let Some(part) = out.get_mut(start..) {
        part.rotate_right(head);
    }
}
