//! A JSON value whose text does not depend on the order of its keys. Strings are borrowed from the text that was read where
//! they need no decoding: an object is read and written again for each of its versions.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Number;

/// Serializes to the text that [`serde_json::Value`] has where its maps are sorted.
#[derive(Debug, PartialEq)]
pub(crate) enum Canonical<'a> {
    Null,
    Bool(bool),
    Number(Number),
    String(Cow<'a, str>),
    Array(Vec<Canonical<'a>>),
    Object(Fields<'a>),
}

/// Sorted by name; each name once.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Fields<'a>(Vec<(Cow<'a, str>, Canonical<'a>)>);

impl<'a> Fields<'a> {
    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.as_ref().cmp(name))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Canonical<'a>> {
        self.place(name).ok().map(|at| &self.0[at].1)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Canonical<'a>> {
        self.place(name).ok().map(|at| &mut self.0[at].1)
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if let Ok(at) = self.place(name) {
            self.0.remove(at);
        }
    }

    pub(crate) fn set(&mut self, name: &'a str, value: Canonical<'a>) {
        match self.place(name) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (name.into(), value)),
        }
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|(name, _)| keep(name));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Canonical<'a> {
    pub(crate) fn as_object(&self) -> Option<&Fields<'a>> {
        match self {
            Canonical::Object(fields) => Some(fields),
            _ => None,
        }
    }

    pub(crate) fn as_object_mut(&mut self) -> Option<&mut Fields<'a>> {
        match self {
            Canonical::Object(fields) => Some(fields),
            _ => None,
        }
    }

    pub(crate) fn as_array(&self) -> Option<&[Canonical<'a>]> {
        match self {
            Canonical::Array(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Canonical::String(text) => Some(text),
            _ => None,
        }
    }

    /// The field `name`, if this is an object that has it.
    pub(crate) fn field(&self, name: &str) -> Option<&Canonical<'a>> {
        self.as_object()?.get(name)
    }
}

impl Serialize for Canonical<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Canonical::Null => serializer.serialize_unit(),
            Canonical::Bool(truth) => serializer.serialize_bool(*truth),
            Canonical::Number(number) => number.serialize(serializer),
            Canonical::String(text) => serializer.serialize_str(text),
            Canonical::Array(items) => serializer.collect_seq(items),
            Canonical::Object(fields) => {
                serializer.collect_map(fields.0.iter().map(|(name, value)| (name, value)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Canonical<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Canonical<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Canonical::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Self::Value, E> {
        Ok(Canonical::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Canonical::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Canonical::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Number::from_f64(number).map_or(Canonical::Null, Canonical::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Canonical::String(text.to_owned().into()))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Canonical::String(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Canonical::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut fields: Vec<(Cow<'de, str>, Canonical<'de>)> = Vec::new();
        while let Some(Name(name)) = entries.next_key()? {
            fields.push((name, entries.next_value()?));
        }
        // The sort is stable: of a name that comes twice, the last one counts.
        fields.reverse();
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        fields.dedup_by(|(later, _), (kept, _)| later == kept);
        Ok(Canonical::Object(Fields(fields)))
    }
}

/// The name of a field. serde reads a `Cow` as an owned one unless told otherwise.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_text_is_that_of_a_sorted_tree() {
        let texts = [
            r#"{"b":1,"a":[true,false,null,{}],"é":"ü\"\\\n\u003c/\u0041","c":{"z":-1,"y":2.50,"x":1e300}}"#,
            r#"{"a":18446744073709551615,"b":-9223372036854775808,"c":18446744073709551616,"d":-0.0,"e":0}"#,
            r#"{"twice":1,"x":{"k":1,"j":2,"k":3},"twice":{"last":true}}"#,
            "[]",
            r#""\ud83d\ude00""#,
            "-0",
        ];
        for text in texts {
            let canonical: Canonical = serde_json::from_str(text).unwrap();
            let tree: Value = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&canonical).unwrap(), tree.to_string(), "{text}");
        }
    }

    #[test]
    fn fields_are_found_set_and_removed_in_order() {
        let mut canonical: Canonical = serde_json::from_str(r#"{"b":1,"d":2}"#).unwrap();
        let fields = canonical.as_object_mut().unwrap();
        fields.set("c", Canonical::Null);
        fields.set("b", Canonical::Bool(true));
        fields.remove("d");
        fields.remove("e");
        assert_eq!(fields.get("b"), Some(&Canonical::Bool(true)));
        assert_eq!(serde_json::to_string(&canonical).unwrap(), r#"{"b":true,"c":null}"#);
    }
}
