//! Messages of what was read of their fields, with the zeros that Go writes of what is not set.

use std::ops::{Deref, DerefMut, Range};

use apimachinery::messages::{Field, Kind, Message, Of, Place, Shape};

use crate::protobuf::wire::{BYTES, FIXED64, VARINT, put_bytes, put_head, put_tag, wrap};

/// What is written, and where in it the fields of the messages are that are being read.
pub(super) struct Out {
    pub bytes: Vec<u8>,
    pub pieces: Vec<Piece>,
}

impl Deref for Out {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Out {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

/// Where what was read of a field is.
pub(super) struct Piece {
    pub place: Place,
    pub range: Range<usize>,
}

/// Appends a message of these pieces, which are sorted by place; `depth` messages around it have it inlined.
pub(super) fn assemble(message: Message, depth: usize, pieces: Range<usize>, out: &mut Out) {
    let mut next = pieces.start;
    for (index, field) in message.fields().enumerate() {
        let first = next;
        let is_mine = |piece: &Piece| piece.place.index(depth) == Some(index);
        while next < pieces.end && out.pieces.get(next).is_some_and(is_mine) {
            next += 1;
        }
        // Of what comes twice, the last.
        let range = out.pieces.get(first..next).and_then(<[Piece]>::last).map(|piece| piece.range.clone());
        match (field.of, range) {
            (Of::Message(inner), _) if field.is_inline() => {
                let start = out.len();
                assemble(inner, depth + 1, first..next, out);
                wrap(out, start, field.number);
            }
            (of, Some(range)) => {
                match (field.shape, wire(of)) {
                    (Shape::One, BYTES) => put_head(out, field.number, range.len()),
                    (Shape::One, wire) => put_tag(out, field.number, wire),
                    _ => {}
                }
                out.extend_from_within(range);
            }
            (of, None) if is_always_written(&field) => {
                let (start, wire) = (out.len(), wire(of));
                if wire != BYTES {
                    put_tag(out, field.number, wire);
                }
                zero_of(of, out);
                if wire == BYTES {
                    wrap(out, start, field.number);
                }
            }
            _ => {}
        }
    }
}

/// Go writes it even if it has no value.
fn is_always_written(field: &Field) -> bool {
    field.shape == Shape::One && !field.is_pointer() && field.of != Of::Bytes
}

pub(super) fn wire(of: Of) -> u8 {
    match of {
        Of::String | Of::Bytes | Of::Message(_) => BYTES,
        Of::Double => FIXED64,
        Of::Bool | Of::Int32 | Of::Int64 => VARINT,
    }
}

/// What Go writes of a value that is not set, without tag and length.
pub(super) fn zero_of(of: Of, out: &mut Out) {
    match of {
        Of::String | Of::Bytes => {}
        Of::Bool | Of::Int32 | Of::Int64 => out.push(0),
        Of::Double => out.extend([0; 8]),
        Of::Message(message) => zero(message, out),
    }
}

pub(super) fn zero(message: Message, out: &mut Out) {
    match message.kind() {
        Kind::Struct => assemble(message, 0, 0..0, out),
        Kind::Quantity => put_bytes(out, 1, b"0"),
        Kind::IntOrString => {
            for number in [1, 2] {
                put_tag(out, number, VARINT);
                out.push(0);
            }
            put_bytes(out, 3, &[]);
        }
        Kind::Duration | Kind::SchemaOrBool => {
            put_tag(out, 1, VARINT);
            out.push(0);
        }
        Kind::Time | Kind::MicroTime | Kind::Raw | Kind::List | Kind::SchemaOrList | Kind::SchemaOrTexts => {}
    }
}
