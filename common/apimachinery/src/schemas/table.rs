//! Reading the table of types where it lies.

use std::cmp::Ordering;

use super::format::{FIELD, HEAD, PRESENT, ROOT, TYPE, flag, kind};

static DATA: &[u8] = include_bytes!("../../schemas/types.bin");

fn number(at: usize) -> usize {
    usize::from(u16::from_le_bytes([DATA[at], DATA[at + 1]]))
}

fn long(at: usize) -> usize {
    u32::from_le_bytes([DATA[at], DATA[at + 1], DATA[at + 2], DATA[at + 3]]) as usize
}

/// Where the parts begin.
struct Parts {
    types: usize,
    fields: usize,
    keys: usize,
    roots: usize,
    text: usize,
}

fn parts() -> Parts {
    let types = HEAD + (number(4) + 1) * 4;
    let fields = types + number(6) * TYPE;
    let keys = fields + number(8) * FIELD;
    let roots = keys + number(10) * 2;
    Parts { types, fields, keys, roots, text: roots + number(12) * ROOT }
}

/// The text of the string of this number.
fn bytes(index: usize) -> &'static [u8] {
    let text = parts().text;
    let (from, to) = (long(HEAD + index * 4), long(HEAD + index * 4 + 4));
    &DATA[text + from..text + to]
}

/// The string of this number. What xtask wrote is UTF-8, which the tests check.
fn string(index: usize) -> &'static str {
    std::str::from_utf8(bytes(index)).unwrap_or_default()
}

/// The string of this number plus one.
fn optional(index: usize) -> Option<&'static str> {
    index.checked_sub(1).map(string)
}

/// A type of the API: of an object, or of something in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type(u16);

/// A type that is neither map nor list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    String,
    Boolean,
    Int32,
    Int64,
    Number,
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
}

/// How the items of a list are owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lists {
    /// All together.
    Atomic,
    /// Each by its value.
    Set,
    /// Each by its keys.
    Keyed,
}

/// What a type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Any,
    Scalar(Scalar),
    Struct,
    /// Any keys, with values of this type.
    Map(Type),
    /// Items of this type.
    List(Type, Lists),
}

/// A field of a struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: &'static str,
    pub of: Type,
    /// The value that a missing field has as a key of a list.
    pub default: Option<&'static str>,
    /// True if Kubernetes' own objects always have it, if only empty.
    pub always_present: bool,
}

impl Type {
    /// The type of objects of a kind; `None` for kinds that Kubernetes does not have.
    pub fn of_kind(group: &str, version: &str, kind: &str) -> Option<Type> {
        let (first, wanted) = (parts().roots, (group, version, kind));
        let (mut low, mut high) = (0, number(12));
        while low < high {
            let middle = (low + high) / 2;
            let at = first + middle * ROOT;
            let found = (string(number(at)), string(number(at + 2)), string(number(at + 4)));
            match found.cmp(&wanted) {
                Ordering::Equal => return Some(Type::numbered(number(at + 6))),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// `ObjectMeta`, the metadata of every object.
    pub fn metadata() -> Option<Type> {
        Type::of_kind("", "v1", "Namespace")?.field("metadata").map(|field| field.of)
    }

    fn numbered(index: usize) -> Type {
        Type(u16::try_from(index).unwrap_or_default())
    }

    fn at(self) -> usize {
        parts().types + usize::from(self.0) * TYPE
    }

    fn flags(self) -> u8 {
        DATA[self.at() + 1]
    }

    pub fn shape(self) -> Shape {
        let at = self.at();
        let element = || Type::numbered(number(at + 2));
        Shape::Scalar(match DATA[at] {
            kind::STRING => Scalar::String,
            kind::BOOLEAN => Scalar::Boolean,
            kind::INT32 => Scalar::Int32,
            kind::INT64 => Scalar::Int64,
            kind::NUMBER => Scalar::Number,
            kind::BYTES => Scalar::Bytes,
            kind::TIME => Scalar::Time,
            kind::MICRO_TIME => Scalar::MicroTime,
            kind::QUANTITY => Scalar::Quantity,
            kind::INT_OR_STRING => Scalar::IntOrString,
            kind::STRUCT => return Shape::Struct,
            kind::MAP => return Shape::Map(element()),
            kind::LIST => {
                let lists = match self.flags() & (flag::SET | flag::KEYED) {
                    flag::SET => Lists::Set,
                    flag::KEYED => Lists::Keyed,
                    _ => Lists::Atomic,
                };
                return Shape::List(element(), lists);
            }
            _ => return Shape::Any,
        })
    }

    /// True for a map or struct that is owned as a whole.
    pub fn is_atomic(self) -> bool {
        self.flags() & flag::ATOMIC != 0
    }

    /// True if a strategic merge patch merges this list with what is there.
    pub fn patches_merge(self) -> bool {
        self.flags() & flag::MERGE != 0
    }

    /// The field by which a strategic merge patch knows the items of a list; `None` for items that are known by value.
    pub fn merge_key(self) -> Option<&'static str> {
        optional(number(self.at() + 6)).filter(|_| matches!(self.shape(), Shape::List(..)))
    }

    /// The name of a struct in Go: `v1.Container`.
    pub fn name(self) -> Option<&'static str> {
        optional(number(self.at() + 6)).filter(|_| self.shape() == Shape::Struct)
    }

    /// The keys of a keyed list.
    pub fn keys(self) -> impl Iterator<Item = &'static str> {
        let first = parts().keys + number(self.at() + 4) * 2;
        let is_keyed = matches!(self.shape(), Shape::List(_, Lists::Keyed));
        let count = if is_keyed { number(first) } else { 0 };
        (1..=count).map(move |at| string(number(first + at * 2)))
    }

    fn span(self) -> (usize, usize) {
        match self.shape() {
            Shape::Struct => (number(self.at() + 2), number(self.at() + 4)),
            _ => (0, 0),
        }
    }

    fn nth(index: usize) -> Field {
        let at = parts().fields + index * FIELD;
        Field {
            name: string(number(at)),
            of: Type::numbered(number(at + 2)),
            default: optional(number(at + 4)),
            always_present: number(at + 6) & usize::from(PRESENT) != 0,
        }
    }

    /// The fields of a struct, by name.
    pub fn fields(self) -> impl Iterator<Item = Field> {
        let (first, count) = self.span();
        (first..first + count).map(Type::nth)
    }

    /// One field of a struct.
    pub fn field(self, name: &str) -> Option<Field> {
        let (first, count) = self.span();
        let fields = parts().fields;
        let (mut low, mut high) = (first, first + count);
        while low < high {
            let middle = (low + high) / 2;
            match bytes(number(fields + middle * FIELD)).cmp(name.as_bytes()) {
                Ordering::Equal => return Some(Type::nth(middle)),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        None
    }
}
