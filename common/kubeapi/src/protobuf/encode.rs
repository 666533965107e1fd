//! From JSON to messages, as it is read. What a message has is put behind what is written, field by field as JSON has them, and then
//! once more in the order of their numbers, with the zeros that Go writes of what is not set.

mod assemble;

use std::fmt;
use std::ops::Range;

use apimachinery::messages::{Field, Kind, Message, Of, Place, Shape};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde_json::value::RawValue;

use assemble::{Out, Piece, assemble, wire, zero, zero_of};

use super::scalars;
use super::wire::{BYTES, VARINT, put_bytes, put_head, put_tag, put_varint, wrap};

/// Appends the message of an object. Fields that the message does not have are left out.
///
/// # Errors
/// What does not read, or is of another type than its field.
pub(super) fn object<'de, D>(message: Message, json: D, out: &mut Vec<u8>) -> Result<(), D::Error>
where
    D: Deserializer<'de>,
{
    let mut made = Out { bytes: std::mem::take(out), pieces: Vec::with_capacity(64) };
    let is_set = Content { of: Of::Message(message), out: &mut made }.deserialize(json);
    if let Ok(false) = is_set {
        zero(message, &mut made);
    }
    *out = made.bytes;
    is_set.map(|_| ())
}

/// One value, without tag and length. False: it is null, and nothing was written.
struct Content<'o> {
    of: Of,
    out: &'o mut Out,
}

impl Content<'_> {
    fn is(&self, kind: Kind) -> bool {
        matches!(self.of, Of::Message(message) if message.kind() == kind)
    }

    fn varint(self, value: u64) -> bool {
        put_varint(self.out, value);
        true
    }

    /// The message of field `number` of this one, which is a schema.
    fn schema<'de, A: MapAccess<'de>>(
        self,
        message: Message,
        index: usize,
        map: A,
    ) -> Result<bool, A::Error> {
        let Some(field) = message.field(index) else { return Ok(false) };
        let Of::Message(schema) = field.of else { return Ok(false) };
        let start = self.out.len();
        fields(schema, map, self.out)?;
        wrap(self.out, start, field.number);
        Ok(true)
    }
}

impl<'de> DeserializeSeed<'de> for Content<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        if !self.is(Kind::Raw) {
            return json.deserialize_any(self);
        }
        let raw = <Box<RawValue> as serde::Deserialize>::deserialize(json)?;
        let is_set = raw.get() != "null";
        if is_set {
            put_bytes(self.out, 1, raw.get().as_bytes());
        }
        Ok(is_set)
    }
}

impl<'de> Visitor<'de> for Content<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            Of::Message(message) => write!(f, "{}", message.name()),
            other => write!(f, "{other:?}"),
        }
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_none<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        match self.of {
            Of::Bool => Ok(self.varint(u64::from(value))),
            _ if self.is(Kind::SchemaOrBool) => {
                put_tag(self.out, 1, VARINT);
                Ok(self.varint(u64::from(value)))
            }
            _ => Err(E::invalid_type(Unexpected::Bool(value), &self)),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<bool, E> {
        match self.of {
            // Negative ones have ten bytes, as Go writes those of 32 bits too.
            Of::Int32 | Of::Int64 => return Ok(self.varint(value.cast_unsigned())),
            Of::Double => self.out.extend((value as f64).to_le_bytes()),
            _ if self.is(Kind::IntOrString) => {
                put_tag(self.out, 1, VARINT);
                put_varint(self.out, 0);
                put_tag(self.out, 2, VARINT);
                put_varint(self.out, value.cast_unsigned());
                put_bytes(self.out, 3, &[]);
            }
            _ if self.is(Kind::Quantity) => scalars::put_quantity(self.out, &value.to_string()),
            _ => return Err(E::invalid_type(Unexpected::Signed(value), &self)),
        }
        Ok(true)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<bool, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => self.visit_f64(value as f64),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<bool, E> {
        match self.of {
            Of::Double => self.out.extend(value.to_le_bytes()),
            // What Go takes for a whole number too.
            Of::Int32 | Of::Int64 if value.fract() == 0.0 && value.abs() < 9e15 => {
                return self.visit_i64(value as i64);
            }
            _ if self.is(Kind::Quantity) => scalars::put_quantity(self.out, &value.to_string()),
            _ => return Err(E::invalid_type(Unexpected::Float(value), &self)),
        }
        Ok(true)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        let wrong = |this: &Content<'_>| E::invalid_value(Unexpected::Str(text), this);
        let kind = match self.of {
            Of::String => {
                self.out.extend_from_slice(text.as_bytes());
                return Ok(true);
            }
            Of::Bytes => {
                STANDARD.decode_vec(text, self.out).map_err(|_| wrong(&self))?;
                return Ok(true);
            }
            Of::Message(message) => message.kind(),
            _ => return Err(wrong(&self)),
        };
        match kind {
            Kind::Time | Kind::MicroTime => {
                scalars::put_time(self.out, text, kind).ok_or_else(|| wrong(&self))?;
            }
            Kind::Quantity => scalars::put_quantity(self.out, text),
            Kind::Duration => {
                let nanos = scalars::nanos(text).ok_or_else(|| wrong(&self))?;
                put_tag(self.out, 1, VARINT);
                put_varint(self.out, nanos.cast_unsigned());
            }
            Kind::IntOrString => {
                put_tag(self.out, 1, VARINT);
                put_varint(self.out, 1);
                put_tag(self.out, 2, VARINT);
                put_varint(self.out, 0);
                put_bytes(self.out, 3, text.as_bytes());
            }
            _ => return Err(wrong(&self)),
        }
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<bool, A::Error> {
        let Of::Message(message) = self.of else { return Err(Error::invalid_type(Unexpected::Map, &self)) };
        match message.kind() {
            Kind::Struct => fields(message, map, self.out).map(|()| true),
            Kind::SchemaOrBool => {
                put_tag(self.out, 1, VARINT);
                put_varint(self.out, 1);
                self.schema(message, 1, map)
            }
            Kind::SchemaOrList | Kind::SchemaOrTexts => self.schema(message, 0, map),
            _ => Err(Error::invalid_type(Unexpected::Map, &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<bool, A::Error> {
        let index = match self.of {
            Of::Message(message) if message.kind() == Kind::List => message.field(0),
            Of::Message(message) if matches!(message.kind(), Kind::SchemaOrList | Kind::SchemaOrTexts) => {
                message.field(1)
            }
            _ => None,
        };
        match index {
            Some(field) => Whole { field, out: self.out }.visit_seq(items),
            None => Err(Error::invalid_type(Unexpected::Seq, &self)),
        }
    }
}

/// All that a field has. What is repeated or a map is written with tags, anything else as [`Content`]. False: it is null.
struct Whole<'o> {
    field: Field,
    out: &'o mut Out,
}

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        match self.field.shape {
            Shape::One => Content { of: self.field.of, out: self.out }.deserialize(json),
            _ => json.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = if self.field.shape == Shape::Map { "map" } else { "list" };
        write!(f, "a {shape} for {}", self.field.name())
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        if self.field.shape != Shape::Repeated {
            return Err(Error::invalid_type(Unexpected::Seq, &self));
        }
        while items
            .next_element_seed(Item { number: self.field.number, of: self.field.of, out: self.out })?
            .is_some()
        {}
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        if self.field.shape != Shape::Map {
            return Err(Error::invalid_type(Unexpected::Map, &self));
        }
        let (field, base) = (self.field, self.out.len());
        let mut entries: Vec<(String, Range<usize>)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let start = self.out.len();
            put_bytes(self.out, 1, key.as_bytes());
            map.next_value_seed(Item { number: 2, of: field.of, out: self.out })?;
            entries.push((key, start..self.out.len()));
        }
        // As Go sorts them: by their bytes.
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        let end = self.out.len();
        for (_, range) in entries {
            put_head(self.out, field.number, range.len());
            self.out.extend_from_within(range);
        }
        self.out.drain(base..end);
        Ok(true)
    }
}

/// An item of a list or a value of a map, with its tag. One that is null is written as its zero.
struct Item<'o> {
    number: u8,
    of: Of,
    out: &'o mut Out,
}

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        let Item { number, of, out } = self;
        let (start, wire) = (out.len(), wire(of));
        if wire != BYTES {
            put_tag(out, number, wire);
        }
        if !(Content { of, out }).deserialize(json)? {
            zero_of(of, out);
        }
        if wire == BYTES {
            wrap(out, start, number);
        }
        Ok(())
    }
}

fn fields<'de, A: MapAccess<'de>>(message: Message, mut map: A, out: &mut Out) -> Result<(), A::Error> {
    let (base, first) = (out.len(), out.pieces.len());
    while let Some(named) = map.next_key_seed(Name(message))? {
        let Some((place, field)) = named else {
            map.next_value::<IgnoredAny>()?;
            continue;
        };
        let start = out.len();
        if map.next_value_seed(Whole { field, out })? {
            let range = start..out.len();
            out.pieces.push(Piece { place, range });
        }
    }
    let end = out.len();
    if let Some(mine) = out.pieces.get_mut(first..) {
        mine.sort_by_key(|piece| piece.place);
    }
    let all = first..out.pieces.len();
    assemble(message, 0, all, out);
    out.pieces.truncate(first);
    out.drain(base..end);
    Ok(())
}

/// The name of a field in JSON; `None`: the message has none of it.
struct Name(Message);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<(Place, Field)>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<(Place, Field)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.named(name))
    }
}
