//! The form of `types.bin`, shared by the one who writes it and the one who reads it. All numbers are little-endian.
//!
//! | part | entries | bytes of each |
//! |---|---|---|
//! | head: [`MAGIC`], then the number of strings, types, fields, keys and roots as `u16` each | 1 | 14 |
//! | offset of each string in the text at the end, and the end of the last one | strings + 1 | 4 |
//! | types: kind, flags, `a`, `b`, merge key of a list or name of a struct | types | [`TYPE`] |
//! | fields of structs, by name within one: name, type, default, flags | fields | [`FIELD`] |
//! | keys of lists: a count, then that many strings | keys | 2 |
//! | roots: group, version, kind, type, sorted by the first three as text | roots | [`ROOT`] |
//! | text of all strings | | |
//!
//! Strings are named by number; where there may be none, by number plus one, and 0 is none.

pub const MAGIC: &[u8; 4] = b"KST1";
pub const HEAD: usize = 14;
pub const TYPE: usize = 8;
pub const FIELD: usize = 8;
pub const ROOT: usize = 8;

/// Kinds of types. `a` and `b` are 0 unless said otherwise.
pub mod kind {
    /// Anything; maps are granular and lists atomic.
    pub const ANY: u8 = 0;
    pub const STRING: u8 = 1;
    pub const BOOLEAN: u8 = 2;
    pub const INT32: u8 = 3;
    pub const INT64: u8 = 4;
    pub const NUMBER: u8 = 5;
    /// Base64.
    pub const BYTES: u8 = 6;
    /// RFC 3339, whole seconds.
    pub const TIME: u8 = 7;
    /// RFC 3339, microseconds.
    pub const MICRO_TIME: u8 = 8;
    pub const QUANTITY: u8 = 9;
    pub const INT_OR_STRING: u8 = 10;
    /// `a` is its first field, `b` how many it has.
    pub const STRUCT: u8 = 11;
    /// `a` is the type of its values.
    pub const MAP: u8 = 12;
    /// `a` is the type of its items, `b` the place of its keys if it is a map by them.
    pub const LIST: u8 = 13;
}

/// Flags of types.
pub mod flag {
    /// A list whose items are owned one by one, each by its value.
    pub const SET: u8 = 1;
    /// A list whose items are owned one by one, each by its keys.
    pub const KEYED: u8 = 2;
    /// A map that is owned as a whole.
    pub const ATOMIC: u8 = 4;
    /// Patch strategy `merge`.
    pub const MERGE: u8 = 8;
    /// Patch strategy `retainKeys`.
    pub const RETAIN_KEYS: u8 = 16;
}

/// Flag of a field that Kubernetes' own objects always have, if only as an empty map or as null.
pub const PRESENT: u16 = 1;
