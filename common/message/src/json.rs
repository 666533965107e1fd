//! Raw JSON text that is cheap to clone and never re-encoded.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// One JSON value as the text it arrived in. Cloning shares the text.
#[derive(Clone)]
pub struct Json(Arc<RawValue>);

#[derive(Debug, thiserror::Error)]
#[error("reading JSON as {wanted}")]
pub struct JsonError {
    wanted: &'static str,
    #[source]
    source: serde_json::Error,
}

impl Json {
    /// The value `null`.
    pub fn null() -> Json {
        Json(Arc::from(RawValue::NULL.to_owned()))
    }

    /// Checks that `text` is exactly one JSON value and keeps it as it is.
    ///
    /// # Errors
    /// [`JsonError`]: `text` is not JSON, or more follows the first value.
    pub fn from_text(text: String) -> Result<Json, JsonError> {
        RawValue::from_string(text)
            .map(|raw| Json(Arc::from(raw)))
            .map_err(|source| JsonError { wanted: "one JSON value", source })
    }

    /// Encodes a serde value. Fails only for maps with keys that are not strings.
    ///
    /// # Errors
    /// [`JsonError`]: a map has keys that are not strings.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Json, JsonError> {
        serde_json::value::to_raw_value(value)
            .map(|raw| Json(Arc::from(raw)))
            .map_err(|source| JsonError { wanted: "an encodable value", source })
    }

    /// A JSON string holding `text`.
    pub fn string(text: &str) -> Json {
        Json::encode(text).unwrap_or_else(|_| Json::null())
    }

    /// The text of the value, without surrounding white space.
    pub fn text(&self) -> &str {
        self.0.get()
    }

    pub fn is_null(&self) -> bool {
        self.text() == "null"
    }

    /// Reads the value as `T`.
    ///
    /// # Errors
    /// [`JsonError`]: the value is not a `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, JsonError> {
        serde_json::from_str(self.text())
            .map_err(|source| JsonError { wanted: std::any::type_name::<T>(), source })
    }

    /// "Get content data" of every Go consumer (docs/protocol/transport.md 1.2): a string gives its characters, anything else
    /// its JSON text. So an object and a string that holds the object's JSON read alike.
    pub fn data(&self) -> String {
        if self.text().starts_with('"')
            && let Ok(text) = serde_json::from_str::<String>(self.text())
        {
            return text;
        }
        self.text().to_owned()
    }

    /// The value that [`Json::data`] holds: unwraps one level of "JSON inside a string".
    ///
    /// # Errors
    /// [`JsonError`]: the string holds no JSON.
    pub fn unwrapped(&self) -> Result<Json, JsonError> {
        if self.text().starts_with('"') { Json::from_text(self.data()) } else { Ok(self.clone()) }
    }
}

impl fmt::Debug for Json {
    /// Prints the size only: contents may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.text().len())
    }
}

impl PartialEq for Json {
    /// Equal as JSON values, not as text.
    fn eq(&self, other: &Json) -> bool {
        if self.text() == other.text() {
            return true;
        }
        let read = |json: &Json| serde_json::from_str::<serde_json::Value>(json.text()).ok();
        read(self) == read(other)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Json(Arc::from(raw)))
    }
}
