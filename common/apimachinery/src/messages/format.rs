//! The form of `messages.bin`, shared by the one who writes it and the one who reads it. All numbers are little-endian.
//!
//! | part | entries | bytes of each |
//! |---|---|---|
//! | head: [`MAGIC`], then the number of strings, messages, fields, names and roots as `u16` each | 1 | [`HEAD`] |
//! | offset of each string in the text at the end, and the end of the last one | strings + 1 | 4 |
//! | messages: name, first field, first name, number of names, number of fields, kind | messages | [`MESSAGE`] |
//! | fields, by number within a message: number, type, flags, name in JSON, message | fields | [`FIELD`] |
//! | names of a message in JSON, shorter ones first, then by their bytes: the name, its length, the field's place in the message | names | [`NAME`] |
//! | roots: group, version, kind, message, sorted by the first three as text | roots | [`ROOT`] |
//! | text of all strings | | |
//!
//! A field's place is its index among the fields of the message; of what is inlined in JSON, the index of the inlined field and then
//! the place in its message. Unused bytes of a place are [`NOWHERE`].

pub const MAGIC: &[u8; 4] = b"KPB1";
pub const HEAD: usize = 14;
pub const MESSAGE: usize = 10;
pub const FIELD: usize = 8;
pub const NAME: usize = 3 + DEPTH;
pub const ROOT: usize = 8;

/// Most messages that are inlined in one another, and one.
pub const DEPTH: usize = 3;
pub const NOWHERE: u8 = 0xff;

/// What a message is in JSON.
pub mod kind {
    /// An object.
    pub const STRUCT: u8 = 0;
    /// RFC 3339, whole seconds.
    pub const TIME: u8 = 1;
    /// RFC 3339, microseconds.
    pub const MICRO_TIME: u8 = 2;
    /// Go's text, such as `1m30s`.
    pub const DURATION: u8 = 3;
    pub const QUANTITY: u8 = 4;
    pub const INT_OR_STRING: u8 = 5;
    /// Any JSON, as text in field 1.
    pub const RAW: u8 = 6;
    /// The list of texts that is field 1.
    pub const LIST: u8 = 7;
    /// A schema, or a boolean.
    pub const SCHEMA_OR_BOOL: u8 = 8;
    /// A schema, or a list of schemas.
    pub const SCHEMA_OR_LIST: u8 = 9;
    /// A schema, or a list of texts.
    pub const SCHEMA_OR_TEXTS: u8 = 10;
}

/// Types of fields.
pub mod of {
    pub const STRING: u8 = 0;
    pub const BOOL: u8 = 1;
    pub const INT32: u8 = 2;
    pub const INT64: u8 = 3;
    pub const DOUBLE: u8 = 4;
    pub const BYTES: u8 = 5;
    pub const MESSAGE: u8 = 6;
}

/// Flags of fields.
pub mod flag {
    pub const REPEATED: u8 = 1;
    /// A map of texts to the field's type.
    pub const MAP: u8 = 2;
    /// Go can tell it unset from its zero.
    pub const POINTER: u8 = 4;
    /// JSON leaves it out if it is Go's zero or empty; structs are never that.
    pub const OMIT_EMPTY: u8 = 8;
    /// JSON leaves it out if it is Go's zero, even a struct.
    pub const OMIT_ZERO: u8 = 16;
    /// Its fields are those of the object it is in.
    pub const INLINE: u8 = 32;
}
