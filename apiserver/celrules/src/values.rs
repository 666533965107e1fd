//! JSON as values of CEL, typed by a schema where there is one.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_cel::cel::Value;
use kube_cel::cel::objects::{Key, Map};
use serde_json::Value as Json;

/// Words that cannot be names of fields in CEL.
const RESERVED: [&str; 20] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
];

/// The name that a field has in expressions (`k8s.io/apiserver/pkg/cel/escaping.go`).
pub(crate) fn escape(name: &str) -> String {
    if RESERVED.contains(&name) || name == "while" {
        return format!("__{name}__");
    }
    if !name.contains(['.', '-', '/']) && !name.contains("__") {
        return name.to_owned();
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}

/// Where a field is in an object with a schema.
pub(crate) fn inner<'s>(schema: &'s Json, key: &str) -> Option<&'s Json> {
    let property = schema.get("properties").and_then(|properties| properties.get(key));
    property.or_else(|| schema.get("additionalProperties").filter(|additional| additional.is_object()))
}

/// True if the keys are data, not names of fields.
pub(crate) fn is_map(schema: &Json) -> bool {
    schema.get("additionalProperties").is_some_and(|additional| additional != &Json::Bool(false))
}

/// A value without a schema. Names stay as they are: they are data to CEL.
pub(crate) fn untyped(value: &Json) -> Value {
    typed(value, &Json::Null)
}

/// A value of a schema: times, durations and bytes are such, and names of fields are escaped.
pub(crate) fn typed(value: &Json, schema: &Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) if schema.get("type").is_some_and(|of| of == "number") => {
            Value::Float(number.as_f64().unwrap_or(f64::NAN))
        }
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::Int(number),
            // 3.0 is an integer in JSON schema.
            (None, Some(number)) if schema.get("type").is_some_and(|of| of == "integer") => {
                Value::Int(number as i64)
            }
            (None, number) => Value::Float(number.unwrap_or(f64::NAN)),
        },
        Json::String(text) => string(text, schema),
        Json::Array(items) => {
            let schema = schema.get("items").unwrap_or(&Json::Null);
            Value::List(Arc::new(items.iter().map(|item| typed(item, schema)).collect()))
        }
        Json::Object(fields) => {
            let is_data = schema.is_null() || is_map(schema);
            let field = |(key, value): (&String, &Json)| {
                let name = if is_data { key.clone() } else { escape(key) };
                (name, typed(value, inner(schema, key).unwrap_or(&Json::Null)))
            };
            map(fields.iter().map(field))
        }
    }
}

pub(crate) fn map(fields: impl Iterator<Item = (String, Value)>) -> Value {
    let fields: HashMap<Key, Value> =
        fields.map(|(name, value)| (Key::String(Arc::new(name)), value)).collect();
    Value::Map(Map { map: Arc::new(fields) })
}

fn string(text: &str, schema: &Json) -> Value {
    let plain = || Value::String(Arc::new(text.to_owned()));
    let read = match schema.get("format").and_then(Json::as_str) {
        Some("date-time") => chrono::DateTime::parse_from_rfc3339(text).ok().map(Value::Timestamp),
        Some("date") => {
            chrono::DateTime::parse_from_rfc3339(&format!("{text}T00:00:00Z")).ok().map(Value::Timestamp)
        }
        Some("duration") => duration(text).map(Value::Duration),
        Some("byte") => STANDARD.decode(text).ok().map(|bytes| Value::Bytes(Arc::new(bytes))),
        _ => None,
    };
    read.unwrap_or_else(plain)
}

/// Go's `time.ParseDuration`: `1h30m`, `-1.5s`.
fn duration(text: &str) -> Option<chrono::Duration> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(chrono::Duration::zero());
    }
    let mut nanoseconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let units =
            [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];
        let (unit, worth) = units.iter().find(|(unit, _)| {
            let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
            &rest[..end] == *unit
        })?;
        nanoseconds += number * worth;
        rest = &rest[unit.len()..];
    }
    (!text.is_empty() && nanoseconds < i64::MAX as f64)
        .then(|| chrono::Duration::nanoseconds((sign * nanoseconds) as i64))
}
