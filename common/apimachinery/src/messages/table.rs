//! Reading the table of messages where it lies.

use std::cmp::Ordering;

use super::format::{DEPTH, FIELD, HEAD, MESSAGE, NAME, NOWHERE, ROOT, flag, kind, of};

static DATA: &[u8] = include_bytes!("../../schemas/messages.bin");

const fn number(at: usize) -> usize {
    DATA[at] as usize | (DATA[at + 1] as usize) << 8
}

fn long(at: usize) -> usize {
    u32::from_le_bytes([DATA[at], DATA[at + 1], DATA[at + 2], DATA[at + 3]]) as usize
}

// Where the parts begin.
const MESSAGES: usize = HEAD + (number(4) + 1) * 4;
const FIELDS: usize = MESSAGES + number(6) * MESSAGE;
const NAMES: usize = FIELDS + number(8) * FIELD;
const ROOTS: usize = NAMES + number(10) * NAME;
const TEXT: usize = ROOTS + number(12) * ROOT;

fn bytes(index: usize) -> &'static [u8] {
    let at = HEAD + index * 4;
    &DATA[TEXT + long(at)..TEXT + long(at + 4)]
}

/// The string of this number. What xtask wrote is UTF-8, which the tests check.
fn string(index: usize) -> &'static str {
    std::str::from_utf8(bytes(index)).unwrap_or_default()
}

/// A message: a kind, or something in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message(u16);

/// What a message is in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An object with the message's fields.
    Struct,
    /// RFC 3339, whole seconds.
    Time,
    /// RFC 3339, microseconds.
    MicroTime,
    /// Go's text, such as `1m30s`.
    Duration,
    Quantity,
    IntOrString,
    /// Any JSON.
    Raw,
    /// The list of texts that is its only field.
    List,
    /// A schema, or a boolean.
    SchemaOrBool,
    /// A schema, or a list of schemas.
    SchemaOrList,
    /// A schema, or a list of texts.
    SchemaOrTexts,
}

/// The type of a field, of an item of it, or of a value of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    Bytes,
    Message(Message),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    One,
    Repeated,
    /// Of texts.
    Map,
}

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub number: u8,
    pub of: Of,
    pub shape: Shape,
    flags: u8,
    name: u16,
}

impl Field {
    /// In JSON; empty for what is inlined.
    pub fn name(&self) -> &'static str {
        string(usize::from(self.name))
    }

    /// Go can tell it unset from its zero, so it is written only if it is set.
    pub fn is_pointer(&self) -> bool {
        self.flags & flag::POINTER != 0
    }

    /// JSON leaves it out if it is its type's zero or empty. Structs are never that.
    pub fn omits_empty(&self) -> bool {
        self.flags & flag::OMIT_EMPTY != 0
    }

    /// JSON leaves it out if it is its type's zero, even a struct.
    pub fn omits_zero(&self) -> bool {
        self.flags & flag::OMIT_ZERO != 0
    }

    /// In JSON its fields are those of the object it is in.
    pub fn is_inline(&self) -> bool {
        self.flags & flag::INLINE != 0
    }
}

/// Where a field of a JSON object is in its message: its index, and if that is an inlined message, the index in it, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place([u8; DEPTH]);

impl Place {
    /// The index at this depth of inlined messages; `None` below the field itself.
    pub fn index(self, depth: usize) -> Option<usize> {
        self.0.get(depth).filter(|index| **index != NOWHERE).map(|index| usize::from(*index))
    }
}

/// Kinds that clients send and are sent in the name of any group.
const EVERYWHERE: [&str; 7] = [
    "CreateOptions",
    "DeleteOptions",
    "GetOptions",
    "ListOptions",
    "PatchOptions",
    "UpdateOptions",
    "WatchEvent",
];
/// Kinds of `meta.k8s.io/v1` that call themselves `v1`.
const UNVERSIONED: [&str; 5] = ["APIGroup", "APIGroupList", "APIResourceList", "APIVersions", "Status"];

/// Every message there is.
pub fn all() -> impl Iterator<Item = Message> {
    (0..number(6)).map(Message::at)
}

impl Message {
    /// The message of a kind; `None` for kinds that Kubernetes does not have.
    pub fn of_kind(api_version: &str, kind: &str) -> Option<Message> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let (group, version) = match group {
            _ if EVERYWHERE.contains(&kind) => ("meta.k8s.io", "v1"),
            "" if UNVERSIONED.contains(&kind) => ("meta.k8s.io", "v1"),
            "meta.k8s.io" if version == "v1beta1" => (group, "v1"),
            _ => (group, version),
        };
        let wanted = (group, version, kind);
        let (mut low, mut high) = (0, number(12));
        while low < high {
            let middle = usize::midpoint(low, high);
            let at = ROOTS + middle * ROOT;
            let found = (string(number(at)), string(number(at + 2)), string(number(at + 4)));
            match found.cmp(&wanted) {
                Ordering::Equal => return Some(Message::at(number(at + 6))),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn at(index: usize) -> Message {
        Message(u16::try_from(index).unwrap_or_default())
    }

    fn place(self) -> usize {
        MESSAGES + usize::from(self.0) * MESSAGE
    }

    /// As Go names it: `v1.PodSpec`.
    pub fn name(self) -> &'static str {
        string(number(self.place()))
    }

    pub fn kind(self) -> Kind {
        match DATA[self.place() + 9] {
            kind::TIME => Kind::Time,
            kind::MICRO_TIME => Kind::MicroTime,
            kind::DURATION => Kind::Duration,
            kind::QUANTITY => Kind::Quantity,
            kind::INT_OR_STRING => Kind::IntOrString,
            kind::RAW => Kind::Raw,
            kind::LIST => Kind::List,
            kind::SCHEMA_OR_BOOL => Kind::SchemaOrBool,
            kind::SCHEMA_OR_LIST => Kind::SchemaOrList,
            kind::SCHEMA_OR_TEXTS => Kind::SchemaOrTexts,
            _ => Kind::Struct,
        }
    }

    fn count(self) -> usize {
        usize::from(DATA[self.place() + 8])
    }

    /// The fields, by number.
    pub fn fields(self) -> impl ExactSizeIterator<Item = Field> {
        let first = number(self.place() + 2);
        (first..first + self.count()).map(field)
    }

    /// The field of this index among [`Message::fields`].
    pub fn field(self, index: usize) -> Option<Field> {
        (index < self.count()).then(|| field(number(self.place() + 2) + index))
    }

    /// The field of this number, and its index.
    pub fn numbered(self, wanted: u64) -> Option<(usize, Field)> {
        let first = number(self.place() + 2);
        let index =
            (0..self.count()).find(|index| u64::from(DATA[FIELDS + (first + index) * FIELD]) == wanted)?;
        Some((index, field(first + index)))
    }

    /// The names of its fields in JSON, shorter ones first.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let (first, count) = (number(self.place() + 4), number(self.place() + 6));
        (first..first + count).map(|index| string(number(NAMES + index * NAME)))
    }

    /// The field of this name in JSON, which may be in a message that is inlined, and its place.
    pub fn named(self, name: &str) -> Option<(Place, Field)> {
        let first = number(self.place() + 4);
        let (mut low, mut high) = (first, first + number(self.place() + 6));
        while low < high {
            let middle = usize::midpoint(low, high);
            let at = NAMES + middle * NAME;
            let [low_byte, high_byte, length, place @ ..] = *DATA[at..].first_chunk::<NAME>()?;
            let text = || bytes(usize::from(u16::from_le_bytes([low_byte, high_byte])));
            // Lengths settle most of it.
            match usize::from(length).cmp(&name.len()).then_with(|| text().cmp(name.as_bytes())) {
                Ordering::Equal => {
                    let place = Place(place);
                    return Some((place, self.placed(place, 0)?));
                }
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn placed(self, place: Place, depth: usize) -> Option<Field> {
        let field = self.field(place.index(depth)?)?;
        match field.of {
            Of::Message(message) if field.is_inline() => message.placed(place, depth + 1),
            _ => Some(field),
        }
    }
}

fn field(index: usize) -> Field {
    let at = FIELDS + index * FIELD;
    let mut entry = [0; FIELD];
    entry.copy_from_slice(&DATA[at..at + FIELD]);
    let [number, of, flags, _, name, high, message, above] = entry;
    Field {
        number,
        name: u16::from_le_bytes([name, high]),
        of: match of {
            of::STRING => Of::String,
            of::BOOL => Of::Bool,
            of::INT32 => Of::Int32,
            of::INT64 => Of::Int64,
            of::DOUBLE => Of::Double,
            of::BYTES => Of::Bytes,
            _ => Of::Message(Message(u16::from_le_bytes([message, above]))),
        },
        shape: match flags & (flag::REPEATED | flag::MAP) {
            flag::REPEATED => Shape::Repeated,
            flag::MAP => Shape::Map,
            _ => Shape::One,
        },
        flags,
    }
}
