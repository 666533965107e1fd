//! From messages to JSON, as Go decodes them and writes JSON of it: unknown fields are passed over, zeros that `omitempty` hides are
//! left out, and all others are there.

use apimachinery::messages::{Field, Kind, Message, Of, Shape};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::scalars;
use super::wire::{Broken, Parts, Wire};

/// What is wrong with a field.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("Protobuf of {message}, field {field}: {what}")]
pub(super) struct Failure {
    message: &'static str,
    field: String,
    what: What,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum What {
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("its wire type is not that of the field")]
    WireType,
    #[error("it is not UTF-8")]
    Text,
    #[error("it is not JSON: {0}")]
    Json(String),
    #[error("{0}")]
    Scalar(String),
    #[error("messages are nested more than {DEPTH} deep")]
    Depth,
    #[error("the object has more than {VALUES} values")]
    Values,
}

/// Most messages in one another. The JSON of it stays below what its readers take.
const DEPTH: usize = 60;
/// Most values of the JSON of a body: an empty message takes two bytes here and many times as much there.
const VALUES: usize = 500_000;

/// The JSON object of a message.
///
/// # Errors
/// [`Failure`].
pub(super) fn object(message: Message, bytes: &[u8]) -> Result<Map<String, Value>, Failure> {
    Decoder { values: VALUES }.fields(message, bytes, DEPTH)
}

struct Decoder {
    /// How many more values there may be.
    values: usize,
}

impl Decoder {
    fn count(&mut self) -> Result<(), What> {
        self.values = self.values.checked_sub(1).ok_or(What::Values)?;
        Ok(())
    }

    fn fields(
        &mut self,
        message: Message,
        bytes: &[u8],
        depth: usize,
    ) -> Result<Map<String, Value>, Failure> {
        let fail = |field: &dyn std::fmt::Display, what: What| Failure {
            message: message.name(),
            field: field.to_string(),
            what,
        };
        let mut found: Vec<Option<Found>> = message.fields().map(|_| None).collect();
        let mut parts = Parts(bytes);
        let mut last = 0;
        while let Some((number, wire)) =
            parts.next().map_err(|error| fail(&format!("after {last}"), error.into()))?
        {
            last = number;
            let Some((index, field)) = message.numbered(number) else { continue };
            let Some(slot) = found.get_mut(index) else { continue };
            let named = |what: What| fail(&label(&field), what);
            match self.take(slot, &field, wire, depth) {
                Ok(()) => {}
                Err(Trouble::Here(what)) => return Err(named(what)),
                Err(Trouble::Below(failure)) => return Err(failure),
            }
        }
        let mut out = Map::new();
        for (field, found) in message.fields().zip(found) {
            match self.told(&field, found, depth) {
                Ok(Some(Found::Inlined(inner))) => out.extend(inner),
                Ok(Some(found)) => {
                    out.insert(field.name().to_owned(), found.value());
                }
                Ok(None) => {}
                Err(Trouble::Here(what)) => return Err(fail(&label(&field), what)),
                Err(Trouble::Below(failure)) => return Err(failure),
            }
        }
        Ok(out)
    }

    /// Takes in a field as it comes.
    fn take(
        &mut self,
        slot: &mut Option<Found>,
        field: &Field,
        wire: Wire<'_>,
        depth: usize,
    ) -> Result<(), Trouble> {
        match field.shape {
            Shape::One if field.is_inline() => {
                let (Of::Message(message), Wire::Bytes(bytes)) = (field.of, wire) else {
                    return Err(What::WireType.into());
                };
                let depth = depth.checked_sub(1).ok_or(What::Depth)?;
                *slot = Some(Found::Inlined(self.fields(message, bytes, depth).map_err(Trouble::Below)?));
            }
            Shape::One => *slot = Some(Found::Value(self.value(field.of, wire, depth)?)),
            Shape::Repeated => {
                let Found::List(list) = slot.get_or_insert_with(|| Found::List(vec![])) else {
                    return Ok(());
                };
                match (field.of, wire) {
                    (Of::Bool | Of::Int32 | Of::Int64, Wire::Bytes(packed)) => {
                        let mut packed = Parts(packed);
                        while !packed.0.is_empty() {
                            let number = packed.varint().map_err(What::from)?;
                            list.push(self.value(field.of, Wire::Varint(number), depth)?);
                        }
                    }
                    (of, wire) => list.push(self.value(of, wire, depth)?),
                }
            }
            Shape::Map => {
                let Found::Map(map) = slot.get_or_insert_with(|| Found::Map(Map::new())) else {
                    return Ok(());
                };
                let Wire::Bytes(entry) = wire else { return Err(What::WireType.into()) };
                let (mut key, mut value) = (String::new(), None);
                let mut parts = Parts(entry);
                while let Some(part) = parts.next().map_err(What::from)? {
                    match part {
                        (1, Wire::Bytes(bytes)) => key = text(bytes)?.to_owned(),
                        (1, _) => return Err(What::WireType.into()),
                        (2, wire) => value = Some(self.value(field.of, wire, depth)?),
                        _ => {}
                    }
                }
                let value = match value {
                    Some(value) => value,
                    None => self.zero(field.of, depth)?,
                };
                map.insert(key, value);
            }
        }
        Ok(())
    }

    fn value(&mut self, of: Of, wire: Wire<'_>, depth: usize) -> Result<Value, Trouble> {
        self.count()?;
        Ok(match (of, wire) {
            (Of::String, Wire::Bytes(bytes)) => Value::from(text(bytes)?),
            (Of::Bytes, Wire::Bytes(bytes)) => Value::from(STANDARD.encode(bytes)),
            (Of::Bool, Wire::Varint(number)) => Value::from(number != 0),
            // As Go: what is above 32 bits is cut off.
            (Of::Int32, Wire::Varint(number)) => Value::from(number as i32),
            (Of::Int64, Wire::Varint(number)) => Value::from(number.cast_signed()),
            (Of::Double, Wire::Fixed64(bits)) => double(f64::from_bits(bits))?,
            (Of::Message(message), Wire::Bytes(bytes)) => self.message(message, bytes, depth)?,
            _ => return Err(What::WireType.into()),
        })
    }

    fn message(&mut self, message: Message, bytes: &[u8], depth: usize) -> Result<Value, Trouble> {
        let deeper = depth.checked_sub(1).ok_or(What::Depth)?;
        let kind = message.kind();
        let below = |failure| Trouble::Below(failure);
        Ok(match kind {
            Kind::Struct => Value::Object(self.fields(message, bytes, deeper).map_err(below)?),
            Kind::Time | Kind::MicroTime => {
                scalars::time(bytes, kind).map_err(What::Scalar)?.map_or(Value::Null, Value::from)
            }
            Kind::Raw => match field_of(bytes, 1)? {
                None | Some([]) => Value::Null,
                Some(raw) => {
                    let value = serde_json::from_slice(raw).map_err(|error| What::Json(error.to_string()))?;
                    if nesting(&value) > 2 * depth {
                        return Err(What::Depth.into());
                    }
                    value
                }
            },
            Kind::Quantity => match text(field_of(bytes, 1)?.unwrap_or_default())? {
                "" => json!("0"),
                given => json!(
                    apimachinery::quantity::canonical(given)
                        .ok_or_else(|| { What::Scalar(format!("{given:?} is no amount")) })?
                ),
            },
            Kind::Duration => json!(scalars::duration(number_of(bytes, 1)?.cast_signed())),
            Kind::IntOrString => match number_of(bytes, 1)? {
                1 => json!(text(field_of(bytes, 3)?.unwrap_or_default())?),
                0 => json!(number_of(bytes, 2)? as i32),
                other => return Err(What::Scalar(format!("{other} is neither a number nor a text")).into()),
            },
            Kind::List | Kind::SchemaOrBool | Kind::SchemaOrList | Kind::SchemaOrTexts => {
                self.either(message, bytes, deeper)?
            }
        })
    }

    /// What is one thing or another in JSON.
    fn either(&mut self, message: Message, bytes: &[u8], depth: usize) -> Result<Value, Trouble> {
        let mut found: [Option<Found>; 2] = [None, None];
        let mut parts = Parts(bytes);
        while let Some((number, wire)) = parts.next().map_err(What::from)? {
            if let Some((index, field)) = message.numbered(number)
                && let Some(slot) = found.get_mut(index)
            {
                self.take(slot, &field, wire, depth)?;
            }
        }
        let [first, second] = found.map(|found| found.map(Found::value));
        Ok(match message.kind() {
            Kind::SchemaOrBool => second.or(first).unwrap_or(Value::Bool(false)),
            Kind::List => first.unwrap_or_else(|| json!([])),
            _ => second.or(first).unwrap_or(Value::Null),
        })
    }

    /// What Go's JSON has of a value that is not set.
    fn zero(&mut self, of: Of, depth: usize) -> Result<Value, Trouble> {
        self.count()?;
        Ok(match of {
            Of::String => json!(""),
            Of::Bool => json!(false),
            Of::Int32 | Of::Int64 | Of::Double => json!(0),
            Of::Bytes => Value::Null,
            Of::Message(message) => self.message(message, &[], depth)?,
        })
    }

    /// What JSON has of a field; `None`: it leaves it out.
    fn told(&mut self, field: &Field, found: Option<Found>, depth: usize) -> Result<Option<Found>, Trouble> {
        let is_struct = matches!(field.of, Of::Message(_)) && field.shape == Shape::One;
        let is_empty = match &found {
            None => true,
            Some(Found::List(list)) => list.is_empty(),
            Some(Found::Map(map)) => map.is_empty(),
            Some(Found::Value(value)) if !field.is_pointer() => is_zero(value),
            Some(Found::Value(_) | Found::Inlined(_)) => false,
        };
        let is_nullable = field.is_pointer() || field.shape != Shape::One || field.of == Of::Bytes;
        self.count()?;
        Ok(match (is_empty, found) {
            (true, _) if field.omits_zero() => None,
            (true, _) if field.omits_empty() && (is_nullable || !is_struct) => None,
            (_, Some(found)) => Some(found),
            (_, None) if is_nullable => Some(Found::Value(Value::Null)),
            (_, None) => match field.of {
                Of::Message(message) if field.is_inline() => {
                    let depth = depth.checked_sub(1).ok_or(What::Depth)?;
                    Some(Found::Inlined(self.fields(message, &[], depth).map_err(Trouble::Below)?))
                }
                of => Some(Found::Value(self.zero(of, depth)?)),
            },
        })
    }
}

/// What was read of a field.
enum Found {
    Value(Value),
    List(Vec<Value>),
    Map(Map<String, Value>),
    /// The fields of a message that has no name of its own in JSON.
    Inlined(Map<String, Value>),
}

impl Found {
    fn value(self) -> Value {
        match self {
            Found::Value(value) => value,
            Found::List(list) => Value::Array(list),
            Found::Map(map) | Found::Inlined(map) => Value::Object(map),
        }
    }
}

enum Trouble {
    /// With the field that is being read.
    Here(What),
    /// With a field of a message in it.
    Below(Failure),
}

impl From<What> for Trouble {
    fn from(what: What) -> Trouble {
        Trouble::Here(what)
    }
}

impl From<Broken> for Trouble {
    fn from(broken: Broken) -> Trouble {
        Trouble::Here(What::Broken(broken))
    }
}

/// How a field is named to who sent it.
fn label(field: &Field) -> String {
    match field.name() {
        "" => format!("{}", field.number),
        name => format!("{name} ({})", field.number),
    }
}

fn text(bytes: &[u8]) -> Result<&str, What> {
    std::str::from_utf8(bytes).map_err(|_| What::Text)
}

fn double(value: f64) -> Result<Value, What> {
    match serde_json::Number::from_f64(value) {
        // As Go writes it: without a fraction where there is none.
        Some(_) if value.fract() == 0.0 && value.abs() < 9e15 => Ok(json!(value as i64)),
        Some(number) => Ok(Value::Number(number)),
        None => Err(What::Scalar(format!("JSON has no {value}"))),
    }
}

/// How deep lists and maps are in one another.
fn nesting(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(nesting).max().unwrap_or_default(),
        Value::Object(map) => 1 + map.values().map(nesting).max().unwrap_or_default(),
        _ => 0,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    }
}

/// The last field of this number, which has a length.
fn field_of(bytes: &[u8], wanted: u64) -> Result<Option<&[u8]>, What> {
    let (mut parts, mut found) = (Parts(bytes), None);
    while let Some((number, wire)) = parts.next()? {
        match wire {
            Wire::Bytes(bytes) if number == wanted => found = Some(bytes),
            _ if number == wanted => return Err(What::WireType),
            _ => {}
        }
    }
    Ok(found)
}

/// The last field of this number, which is a number.
fn number_of(bytes: &[u8], wanted: u64) -> Result<u64, What> {
    let (mut parts, mut found) = (Parts(bytes), 0);
    while let Some((number, wire)) = parts.next()? {
        match wire {
            Wire::Varint(value) if number == wanted => found = value,
            _ if number == wanted => return Err(What::WireType),
            _ => {}
        }
    }
    Ok(found)
}
