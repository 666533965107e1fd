//! What Go's decoding makes of an object of a built-in kind: fields that the kind does not have are dropped and named, null is the
//! same as missing, amounts get their canonical form, and what is of another type is refused
//! (docs/protocol/kubernetes-api.md 2).

mod strict;

use serde_json::{Map, Value, json};

use crate::quantity;
use crate::schemas::{Scalar, Shape, Type};

pub use strict::Strict;

/// A value of another type than its field. The message is that of Go's `encoding/json`, or of [`Decoding::Restored`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mistyped(String);

/// What decodes in Kubernetes, which says otherwise what is of another type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decoding {
    /// Go's `encoding/json`.
    #[default]
    Json,
    /// The converter of objects that strategic merge patches make (`apimachinery/pkg/runtime/converter.go`).
    Restored,
}

/// Most problems that are told of one object, as in Kubernetes.
const TOLD: usize = 100;

/// Decodes in place. Returns what a strict reader complains of: `unknown field "spec.foo"`.
///
/// # Errors
/// [`Mistyped`]: a field has a value of another type.
pub fn built_in(value: &mut Value, of: Type) -> Result<Vec<String>, Mistyped> {
    let mut decoder = Decoder::default();
    decoder.value(value, None, of)?;
    Ok(decoder.told)
}

/// Decodes what differs from `old`, an object that was decoded before, as [`built_in`] does.
///
/// # Errors
/// [`Mistyped`], as [`built_in`].
pub fn changed(
    value: &mut Value,
    old: &Value,
    of: Type,
    decoding: Decoding,
) -> Result<Vec<String>, Mistyped> {
    let mut decoder = Decoder { decoding, ..Decoder::default() };
    match value.as_object_mut() {
        Some(map) if of.shape() == Shape::Struct => decoder.fields(map, old.as_object(), of)?,
        _ => decoder.value(value, None, of)?,
    }
    Ok(decoder.told)
}

/// Decodes the metadata of an object of any kind, as [`built_in`] does.
///
/// # Errors
/// [`Mistyped`], as [`built_in`].
pub fn metadata(object: &mut Value) -> Result<Vec<String>, Mistyped> {
    let (Some(metadata), Some(of)) = (object.get_mut("metadata"), Type::metadata()) else {
        return Ok(vec![]);
    };
    // Go decodes it alone, so that its fields are named from there.
    let mut decoder = Decoder { path: "metadata".to_owned(), ..Decoder::default() };
    decoder.value(metadata, None, of)?;
    Ok(decoder.told)
}

/// Gives the amounts in an object of a built-in kind their canonical form, and leaves everything else as it is.
pub fn amounts(value: &mut Value, of: Type) {
    match (of.shape(), value) {
        (Shape::Struct, Value::Object(map)) => {
            for (key, value) in map {
                if let Some(field) = of.field(key) {
                    amounts(value, field.of);
                }
            }
        }
        (Shape::Map(inner), Value::Object(map)) => {
            for value in map.values_mut() {
                amounts(value, inner);
                round(value, inner);
            }
        }
        (Shape::List(inner, _), Value::Array(list)) => {
            list.iter_mut().for_each(|value| amounts(value, inner));
        }
        (Shape::Scalar(Scalar::Quantity), value @ (Value::String(_) | Value::Number(_))) => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if let Some(written) = quantity::canonical(&text) {
                *value = json!(written);
            }
        }
        _ => {}
    }
}

/// Rounds an amount in a map, which is one of resources.
fn round(value: &mut Value, of: Type) {
    if let (Shape::Scalar(Scalar::Quantity), Value::String(text)) = (of.shape(), &*value)
        && let Some(rounded) = quantity::rounded(text)
    {
        *value = json!(rounded);
    }
}

#[derive(Default)]
struct Decoder {
    /// `spec.containers[0].image`
    path: String,
    /// `spec.containers.image`, as Go names it.
    fields: String,
    /// The struct that has the field.
    owner: &'static str,
    told: Vec<String>,
    decoding: Decoding,
}

/// What Go's converter says of a value that cannot be one of type `wanted`.
fn unrestored(value: &Value, wanted: &str) -> String {
    let found = match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    };
    match wanted {
        _ if wanted.starts_with("map[") => format!("cannot restore map from {found}"),
        _ if wanted.starts_with("[]") => format!("cannot restore slice from {found}"),
        // Go would make a character of a whole number, and a whole number of a broken one.
        "string" if found == "int64" => format!("cannot convert {found} to {wanted}"),
        "int32" | "int64" if found == "float64" => format!("cannot convert {found} to {wanted}"),
        "string" | "bool" | "int32" | "int64" | "float64" => format!("unrecognized type: {wanted}"),
        _ => format!("cannot restore struct from: {found}"),
    }
}

impl Decoder {
    fn mistyped(&self, value: &Value, wanted: &str) -> Mistyped {
        if self.decoding == Decoding::Restored {
            return Mistyped(unrestored(value, wanted));
        }
        let found = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) if wanted.starts_with("int") => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        let place = match self.fields.as_str() {
            "" => "value".to_owned(),
            fields => format!("struct field {}.{fields}", self.owner),
        };
        Mistyped(format!("json: cannot unmarshal {found} into Go {place} of type {wanted}"))
    }

    /// `old` is what was there, if that is known.
    fn value(&mut self, value: &mut Value, old: Option<&Value>, of: Type) -> Result<(), Mistyped> {
        match (of.shape(), &mut *value) {
            (Shape::Any, _) => Ok(()),
            (Shape::Struct, Value::Object(map)) => self.fields(map, old.and_then(Value::as_object), of),
            (Shape::Map(inner), Value::Object(map)) => {
                for (key, value) in map {
                    let before = self.path.len();
                    self.path.push('.');
                    self.path.push_str(key);
                    self.element(value, inner)?;
                    self.path.truncate(before);
                    round(value, inner);
                }
                Ok(())
            }
            (Shape::List(inner, _), Value::Array(list)) => {
                for (at, item) in list.iter_mut().enumerate() {
                    let before = self.path.len();
                    self.path.push_str(&format!("[{at}]"));
                    self.element(item, inner)?;
                    self.path.truncate(before);
                }
                Ok(())
            }
            (Shape::Scalar(scalar), _) => self.scalar(value, scalar),
            _ => Err(self.mistyped(value, &go_type(of))),
        }
    }

    /// A value in a list or map, where null is an empty one.
    fn element(&mut self, value: &mut Value, of: Type) -> Result<(), Mistyped> {
        if value.is_null() {
            *value = match of.shape() {
                Shape::Scalar(Scalar::String | Scalar::Bytes) => json!(""),
                Shape::Struct | Shape::Map(_) => json!({}),
                Shape::Scalar(Scalar::Quantity) => json!("0"),
                _ => return Ok(()),
            };
        }
        self.value(value, None, of)
    }

    fn fields(
        &mut self,
        map: &mut Map<String, Value>,
        old: Option<&Map<String, Value>>,
        of: Type,
    ) -> Result<(), Mistyped> {
        let mut failure = None;
        let owner = of.name().unwrap_or_default();
        let owner = owner.split_once('.').map_or(owner, |(_, name)| name);
        map.retain(|key, value| {
            let before = old.and_then(|old| old.get(key));
            if before.is_some_and(|before| before == value) {
                return true;
            }
            let Some(field) = of.field(key) else {
                if self.told.len() < TOLD {
                    let dot = if self.path.is_empty() { "" } else { "." };
                    self.told.push(format!("unknown field \"{}{dot}{key}\"", self.path));
                }
                return false;
            };
            if value.is_null() || failure.is_some() {
                return false;
            }
            let (path, fields) = (self.path.len(), self.fields.len());
            for text in [&mut self.path, &mut self.fields] {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            let outer = std::mem::replace(&mut self.owner, owner);
            failure = self.value(value, before, field.of).err();
            self.owner = outer;
            self.path.truncate(path);
            self.fields.truncate(fields);
            // An empty list or map is a missing one, except in the record of owners, where it says something.
            let is_empty = match (field.of.shape(), &*value) {
                (Shape::List(..), Value::Array(list)) => list.is_empty(),
                (Shape::Map(_), Value::Object(map)) => map.is_empty(),
                _ => false,
            };
            !is_empty || field.always_present || key == "managedFields"
        });
        failure.map_or(Ok(()), Err)
    }

    fn scalar(&self, value: &mut Value, scalar: Scalar) -> Result<(), Mistyped> {
        let is_right = match scalar {
            Scalar::String => value.is_string(),
            Scalar::Bytes => match value.as_str() {
                Some(text) => return base64(text),
                None => false,
            },
            Scalar::Boolean => value.is_boolean(),
            Scalar::Int32 => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
            Scalar::Int64 => value.is_i64(),
            Scalar::Number => value.is_number(),
            Scalar::IntOrString => {
                value.is_string() || value.as_i64().is_some_and(|number| i32::try_from(number).is_ok())
            }
            Scalar::Time | Scalar::MicroTime => return self.time(value),
            Scalar::Quantity => return self.amount(value),
        };
        let wanted = match scalar {
            Scalar::Boolean => "bool",
            Scalar::Int32 | Scalar::IntOrString => "int32",
            Scalar::Int64 => "int64",
            Scalar::Number => "float64",
            Scalar::Bytes => "[]uint8",
            _ => "string",
        };
        if is_right { Ok(()) } else { Err(self.mistyped(value, wanted)) }
    }

    fn time(&self, value: &Value) -> Result<(), Mistyped> {
        match value.as_str() {
            None => Err(self.mistyped(value, "string")),
            Some(text) if text.parse::<jiff::Timestamp>().is_ok() => Ok(()),
            Some(text) => Err(Mistyped(format!(
                "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""
            ))),
        }
    }

    fn amount(&self, value: &mut Value) -> Result<(), Mistyped> {
        let text = match &*value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => return Err(self.mistyped(other, "string")),
        };
        // What is beyond our numbers stays as it was written.
        match quantity::canonical(&text) {
            Some(written) => *value = json!(written),
            None if text.len() > 24 && text.starts_with(|c: char| c.is_ascii_digit()) => {}
            None => {
                return Err(Mistyped(
                    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
                        .to_owned(),
                ));
            }
        }
        Ok(())
    }
}

fn base64(text: &str) -> Result<(), Mistyped> {
    use ::base64::DecodeError::InvalidByte;
    use ::base64::Engine as _;
    let at = match ::base64::engine::general_purpose::STANDARD.decode(text) {
        Ok(_) => return Ok(()),
        Err(InvalidByte(at, _)) => at,
        Err(_) => text.len(),
    };
    Err(Mistyped(format!("illegal base64 data at input byte {at}")))
}

/// A value as Go prints it (`%v`): `map[a:[1 2]]`.
pub fn in_go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(in_go).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}:{}", in_go(value))).collect();
            format!("map[{}]", entries.join(" "))
        }
        other => other.to_string(),
    }
}

/// What Go calls a type.
fn go_type(of: Type) -> String {
    match of.shape() {
        Shape::Struct => of.name().unwrap_or_default().to_owned(),
        Shape::Map(inner) => format!("map[string]{}", go_type(inner)),
        Shape::List(inner, _) => format!("[]{}", go_type(inner)),
        Shape::Scalar(Scalar::Boolean) => "bool".to_owned(),
        Shape::Scalar(Scalar::Int32) => "int32".to_owned(),
        Shape::Scalar(Scalar::Int64) => "int64".to_owned(),
        Shape::Scalar(Scalar::Number) => "float64".to_owned(),
        Shape::Scalar(Scalar::Bytes) => "[]uint8".to_owned(),
        Shape::Scalar(Scalar::Quantity) => "resource.Quantity".to_owned(),
        Shape::Scalar(Scalar::IntOrString) => "intstr.IntOrString".to_owned(),
        Shape::Scalar(Scalar::Time) => "v1.Time".to_owned(),
        Shape::Scalar(Scalar::MicroTime) => "v1.MicroTime".to_owned(),
        Shape::Scalar(Scalar::String) => "string".to_owned(),
        Shape::Any => "interface {}".to_owned(),
    }
}

#[cfg(test)]
mod tests;
