//! Reading a value and noting which keys come twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::TOLD;

/// A value, the last of several fields of one name counting, and the paths of the fields that come more than once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Strict {
    pub value: Value,
    pub duplicates: Vec<String>,
    /// Of YAML: the line of the first of them.
    pub line: Option<u64>,
}

impl From<Value> for Strict {
    fn from(value: Value) -> Strict {
        Strict { value, ..Strict::default() }
    }
}

impl Strict {
    /// What Kubernetes says of the keys that come twice: of JSON each by its path, of YAML the first by its line.
    pub fn complaints(&self) -> Vec<String> {
        match (self.line, self.duplicates.first()) {
            (Some(line), Some(path)) => {
                let key = path.rsplit(['.', ']']).next().unwrap_or_default();
                vec![format!("line {line}: key {key:?} already set in map")]
            }
            _ => self.duplicates.iter().map(|path| format!("duplicate field {path:?}")).collect(),
        }
    }

    /// Notes what came twice in `inner`, which is at `place`: a key with a dot before what follows, or an index.
    fn note(&mut self, place: &str, inner: Vec<String>) {
        for path in inner {
            if self.duplicates.len() < TOLD {
                let dot = if path.starts_with('[') { "" } else { "." };
                self.duplicates.push(format!("{place}{dot}{path}"));
            }
        }
    }
}

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Strict, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
        Ok(Value::Bool(value).into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
        Ok(Value::from(value).into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
        Ok(Value::from(value).into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number).into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
        Ok(Value::from(value).into())
    }

    fn visit_string<E>(self, value: String) -> Result<Strict, E> {
        Ok(Value::String(value).into())
    }

    fn visit_none<E>(self) -> Result<Strict, E> {
        Ok(Value::Null.into())
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Value::Null.into())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Strict, D::Error> {
        Deserialize::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
        let (mut out, mut list) = (Strict::default(), Vec::new());
        while let Some(item) = items.next_element::<Strict>()? {
            out.note(&format!("[{}]", list.len()), item.duplicates);
            list.push(item.value);
        }
        out.value = Value::Array(list);
        Ok(out)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Strict, A::Error> {
        let (mut out, mut map) = (Strict::default(), Map::new());
        while let Some(key) = entries.next_key::<String>()? {
            let inner: Strict = entries.next_value()?;
            out.note(&key, inner.duplicates);
            if map.contains_key(&key) && out.duplicates.len() < TOLD {
                out.duplicates.push(key.clone());
            }
            map.insert(key, inner.value);
        }
        out.value = Value::Object(map);
        Ok(out)
    }
}
