//! Reading a configuration file: unknown keys are warnings that name the key, bad values errors that name the file.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("reading configuration file {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("configuration file {path} is not YAML: {reason}")]
    NotYaml { path: PathBuf, reason: String },
    #[error("configuration file {path}: {reason}")]
    BadValue { path: PathBuf, reason: String },
}

/// Largest configuration file read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// Reads `path` over `T`'s defaults. Returns the value and the dotted names of keys that `T` does not know.
pub fn load<T: DeserializeOwned + Serialize>(path: &Path) -> Result<(T, Vec<String>), ConfigError> {
    let read_error = |source| ConfigError::Read { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(read_error)?.len();
    if size > MAX_BYTES {
        let reason = format!("file has {size} bytes, more than the limit of {MAX_BYTES}");
        return Err(ConfigError::BadValue { path: path.to_owned(), reason });
    }
    let text = std::fs::read_to_string(path).map_err(read_error)?;
    parse(&text, path)
}

/// Like [`load`], from text; `path` is named in errors.
pub fn parse<T: DeserializeOwned + Serialize>(
    text: &str,
    path: &Path,
) -> Result<(T, Vec<String>), ConfigError> {
    let path = path.to_owned();
    let mut given: Value = match text.trim() {
        "" => Value::Object(serde_json::Map::new()),
        _ => serde_saphyr::from_str(text)
            .map_err(|error| ConfigError::NotYaml { path: path.clone(), reason: error.to_string() })?,
    };
    drop_nulls(&mut given);
    let value: T = serde_json::from_value(given.clone())
        .map_err(|error| ConfigError::BadValue { path: path.clone(), reason: error.to_string() })?;
    let known = serde_json::to_value(&value)
        .map_err(|error| ConfigError::BadValue { path, reason: error.to_string() })?;
    let mut unknown = Vec::new();
    collect_unknown(&given, &known, "", &mut unknown);
    Ok((value, unknown))
}

/// A key without a value is a key that is not there, as Go's decoders have it.
fn drop_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, field| !field.is_null());
        fields.values_mut().for_each(drop_nulls);
    }
}

/// Keys of `given` that `known` (the value written back with all its keys) does not have. Maps that are empty in
/// `known` are free-form.
fn collect_unknown(given: &Value, known: &Value, at: &str, unknown: &mut Vec<String>) {
    let (Value::Object(given), Value::Object(known)) = (given, known) else { return };
    for (key, value) in given {
        let name = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        match known.get(key) {
            Some(inner) => collect_unknown(value, inner, &name, unknown),
            None => unknown.push(name),
        }
    }
}

/// Writes a value as YAML.
pub fn to_yaml<T: Serialize>(value: &T) -> Result<String, String> {
    serde_saphyr::to_string(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct Inner {
        port: u16,
    }
    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct Outer {
        name: String,
        inner: Inner,
    }

    fn read(text: &str) -> Result<(Outer, Vec<String>), ConfigError> {
        parse(text, Path::new("/etc/x.yaml"))
    }

    #[test]
    fn unknown_keys_are_named_and_known_ones_read_over_defaults() {
        let (value, unknown) = read("name: a\ninner: {port: 7, speed: 3}\nother: {x: 1}\n").unwrap();
        assert_eq!(value, Outer { name: "a".into(), inner: Inner { port: 7 } });
        assert_eq!(unknown, ["inner.speed", "other"]);
        assert_eq!(read("").unwrap().0, Outer::default());
        assert_eq!(read("name:\ninner: null\n").unwrap().0, Outer::default());
    }

    #[test]
    fn a_bad_value_names_the_file() {
        let error = read("inner: {port: 70000}").unwrap_err().to_string();
        assert!(error.contains("/etc/x.yaml"), "{error}");
        assert!(matches!(read("a: [1"), Err(ConfigError::NotYaml { .. })));
    }
}
