//! Free-form configuration values on the wire: JSON scalars as `google.protobuf.Any` (docs/protocol/devices.md 5.4).

use prost::Message;
use prost_types::Any;
use serde_json::Value;

/// A value that has no form on the wire.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("null has no form in DMI")]
pub struct UnsupportedValue;

const PREFIX: &str = "type.googleapis.com/google.protobuf.";

fn any(kind: &str, message: impl Message) -> Any {
    Any { type_url: format!("{PREFIX}{kind}"), value: message.encode_to_vec() }
}

/// Strings, booleans and numbers as the wrapper types Go mappers decode. Whole numbers are Int64Value, which is exact,
/// others FloatValue. Objects and lists travel as a string holding their JSON (KubeEdge refuses the whole device).
///
/// ```
/// use serde_json::json;
///
/// let sent = dmi::any_from_json(&json!(9600))?;
/// assert_eq!(sent.type_url, "type.googleapis.com/google.protobuf.Int64Value");
/// assert_eq!(dmi::json_from_any(&sent), Some(json!(9600)));
/// # Ok::<(), dmi::UnsupportedValue>(())
/// ```
///
/// # Errors
/// [`UnsupportedValue`]: `null` has no form on the wire.
pub fn any_from_json(value: &Value) -> Result<Any, UnsupportedValue> {
    Ok(match value {
        Value::Null => return Err(UnsupportedValue),
        Value::Bool(flag) => any("BoolValue", *flag),
        Value::String(text) => any("StringValue", text.clone()),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => any("Int64Value", whole),
            None => any("FloatValue", number.as_f64().unwrap_or_default() as f32),
        },
        nested => any("StringValue", nested.to_string()),
    })
}

/// The JSON of a wrapped value; `None` for types that have none.
pub fn json_from_any(any: &Any) -> Option<Value> {
    let bytes = any.value.as_slice();
    Some(match any.type_url.strip_prefix(PREFIX)? {
        "BoolValue" => Value::Bool(bool::decode(bytes).ok()?),
        "StringValue" => Value::String(String::decode(bytes).ok()?),
        "Int32Value" => Value::from(i32::decode(bytes).ok()?),
        "Int64Value" => Value::from(i64::decode(bytes).ok()?),
        "FloatValue" => Value::from(f32::decode(bytes).ok()?),
        "DoubleValue" => Value::from(f64::decode(bytes).ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_survive_and_whole_numbers_stay_exact() {
        for value in [json!("text"), json!(true), json!(9_007_199_254_740_993_i64), json!(1.5)] {
            assert_eq!(json_from_any(&any_from_json(&value).unwrap()), Some(value));
        }
        assert_eq!(json_from_any(&any_from_json(&json!({"a": [1]})).unwrap()), Some(json!("{\"a\":[1]}")));
        assert_eq!(any_from_json(&Value::Null), Err(UnsupportedValue));
    }
}
