//! `Object{..}` and `JSONPatch{..}`: what expressions of mutations make. The library evaluates no structs, so they are maps that
//! know the name of their type.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_cel::cel::Value;
use kube_cel::cel::common::ast::{
    EntryExpr, Expr, IdedEntryExpr, IdedExpr, LiteralValue, MapEntryExpr, MapExpr, StructExpr,
    StructFieldExpr,
};
use kube_cel::cel::objects::{Key, Map};
use serde_json::{Map as Fields, Number, Value as Json};

/// The key with the name of the type. No field of an object has this name.
const TYPE: &str = "\0type";
/// The type of whole objects; those of their parts are named by the way to them, as `Object.spec.template`.
pub(crate) const OBJECT: &str = "Object";
/// The type of an operation of a JSON patch.
pub(crate) const OPERATION: &str = "JSONPatch";
/// Its fields.
pub(crate) const OPERATION_FIELDS: [&str; 4] = ["op", "from", "path", "value"];

/// The fields of a struct.
pub(crate) fn fields(of: &StructExpr) -> impl Iterator<Item = &StructFieldExpr> {
    of.entries.iter().filter_map(|entry| match &entry.expr {
        EntryExpr::StructField(field) => Some(field),
        EntryExpr::MapEntry(_) => None,
    })
}

/// The map that a struct becomes.
pub(crate) fn map(of: StructExpr) -> MapExpr {
    let text =
        |text: &str| IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::String(text.to_owned().into())) };
    let entry = |key: &str, value: IdedExpr, optional: bool| {
        let entry = MapEntryExpr { key: text(key), value, optional };
        IdedEntryExpr { id: 0, expr: EntryExpr::MapEntry(entry) }
    };
    let mut entries = vec![entry(TYPE, text(&of.type_name), false)];
    entries.extend(of.entries.into_iter().filter_map(|field| match field.expr {
        EntryExpr::StructField(field) => Some(entry(&field.field, field.value, field.optional)),
        EntryExpr::MapEntry(_) => None,
    }));
    MapExpr { entries }
}

fn type_of(map: &Map) -> Option<&str> {
    match map.map.get(&Key::String(Arc::new(TYPE.to_owned())))? {
        Value::String(name) => Some(name),
        _ => None,
    }
}

/// The JSON of an `Object{..}`.
///
/// # Errors
/// It is none, or a part of it is of the type of another place, or no JSON.
pub(crate) fn object(value: &Value) -> Result<Json, String> {
    match value {
        Value::Map(map) if type_of(map) == Some(OBJECT) => json(value, Some(OBJECT)),
        _ => Err("type mismatch: the expression should evaluate to Object".to_owned()),
    }
}

/// A JSON patch, of a list of `JSONPatch{..}`.
///
/// # Errors
/// It is none, or a value is of the type of another place, or no JSON.
pub(crate) fn patch(value: &Value) -> Result<Json, String> {
    let wrong = || "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch".to_owned();
    let Value::List(operations) = value else { return Err(wrong()) };
    operations.iter().map(|operation| one(operation).unwrap_or_else(|| Err(wrong()))).collect()
}

/// `None`: it is no operation.
fn one(operation: &Value) -> Option<Result<Json, String>> {
    let Value::Map(map) = operation else { return None };
    (type_of(map) == Some(OPERATION)).then_some(())?;
    let mut made = Fields::new();
    for field in OPERATION_FIELDS {
        let value = map.map.get(&Key::String(Arc::new(field.to_owned())));
        match (field, value) {
            ("from", None) => {}
            ("from", Some(Value::String(from))) if from.is_empty() => {}
            ("value", None) => {}
            ("value", Some(value)) => match json(value, None) {
                Ok(value) => drop(made.insert(field.to_owned(), value)),
                Err(error) => return Some(Err(error)),
            },
            (_, Some(Value::String(text))) => drop(made.insert(field.to_owned(), text.as_str().into())),
            (_, None) => drop(made.insert(field.to_owned(), "".into())),
            (_, Some(_)) => {
                return Some(Err(format!(
                    "unexpected type for JSONPatchType '{field}' field: it is no string"
                )));
            }
        }
    }
    Some(Ok(Json::Object(made)))
}

/// The JSON of a value; `place` is the type that an object has there, where that is known.
fn json(value: &Value, place: Option<&str>) -> Result<Json, String> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(number) => Json::from(*number),
        Value::UInt(number) => Json::from(*number),
        Value::Float(number) => float(*number)?,
        Value::String(text) => Json::String(text.to_string()),
        Value::Bytes(bytes) => Json::String(STANDARD.encode(bytes.as_slice())),
        Value::Timestamp(time) => {
            Json::String(time.to_utc().to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
        }
        Value::Duration(time) => Json::String(format!("{}s", time.as_seconds_f64())),
        Value::List(items) => items.iter().map(|item| json(item, place)).collect::<Result<_, _>>()?,
        Value::Map(map) => return fields_of(map, place),
        Value::Function(..) | Value::Opaque(_) => {
            return Err("a value of the expression is of a type that could not marshal to JSON".to_owned());
        }
    })
}

fn float(number: f64) -> Result<Json, String> {
    let whole = number as i64;
    if whole as f64 == number {
        return Ok(Json::from(whole));
    }
    let number = Number::from_f64(number).map(Json::Number);
    number.ok_or_else(|| "a number of the expression is not finite".to_owned())
}

fn fields_of(map: &Map, place: Option<&str>) -> Result<Json, String> {
    let own = type_of(map);
    if let (Some(own), Some(place)) = (own, place)
        && own != place
    {
        return Err(format!(
            "type mismatch: unexpected type name {own:?}, expected {place:?}, which matches field name path from root Object type"
        ));
    }
    let mut made = Fields::new();
    for (key, value) in map.map.iter() {
        let Key::String(name) = key else {
            return Err("a map of the expression has keys that are no strings".to_owned());
        };
        if name.as_str() == TYPE {
            continue;
        }
        let value = match own {
            Some(own) => json(value, Some(&format!("{own}.{name}")))?,
            None => json(value, place)?,
        };
        made.insert(name.to_string(), value);
    }
    Ok(Json::Object(made))
}
