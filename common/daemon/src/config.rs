//! Reading a configuration file: unknown keys are told with their values, bad values are errors that name the file, the
//! key and the line.

mod place;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "reading configuration file {path}; keadm writes one, and --minconfig prints the keys of a first one"
    )]
    Read { path: PathBuf, source: std::io::Error },
    #[error("configuration file {path} is not YAML: {reason}")]
    NotYaml { path: PathBuf, reason: String },
    #[error("configuration file {path}: {reason}")]
    BadValue { path: PathBuf, reason: String },
    #[error("configuration file {path} is of {key} {given:?}; this program reads {key} {wanted:?}")]
    OtherKind { path: PathBuf, key: &'static str, given: String, wanted: String },
    #[error(
        "configuration file {path} says no {key}: it is empty, cut, or no configuration of this program, which has {key}: \
         {wanted}; put it back from a copy, or write a new one (--minconfig prints one)"
    )]
    Cut { path: PathBuf, key: &'static str, wanted: String },
}

/// A key that the type read does not have; below a key that it does not have, each key for itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Unused {
    /// Dotted.
    pub key: String,
    pub value: Value,
}

/// Largest configuration file read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// Reads `path` over `T`'s defaults. Returns the value and the dotted names of keys that `T` does not know.
///
/// # Errors
/// [`ConfigError`] names the file, and the key and line of a value that cannot be read.
pub fn load<T: DeserializeOwned + Serialize>(path: &Path) -> Result<(T, Vec<String>), ConfigError> {
    parse(&read(path)?, path)
}

/// Like [`load`], from text; `path` is named in errors.
///
/// ```
/// use std::path::Path;
///
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// #[serde(default)]
/// struct Listen {
///     port: u16,
/// }
///
/// let (listen, unknown) = daemon::config::parse::<Listen>("port: 10000\nprot: 1\n", Path::new("my.yaml"))?;
/// assert_eq!((listen.port, unknown), (10000, vec!["prot".to_owned()]));
/// # Ok::<(), daemon::config::ConfigError>(())
/// ```
///
/// # Errors
/// [`ConfigError`] as [`load`]'s.
pub fn parse<T: DeserializeOwned + Serialize>(
    text: &str,
    path: &Path,
) -> Result<(T, Vec<String>), ConfigError> {
    let (value, unknown) = over_defaults(&document(text, path)?, text, path)?;
    Ok((value, unknown.into_iter().map(|unused| unused.key).collect()))
}

/// Reads a file that says what it is (`kind`, `apiVersion`): one that says nothing, or something else than `T`'s default,
/// is refused. Any version of the API's group will do, as KubeEdge writes several.
///
/// # Errors
/// [`ConfigError`] as [`load`]'s, and for a file that is empty, cut, or of another kind or API group.
pub fn load_kind<T>(path: &Path) -> Result<(T, Vec<Unused>), ConfigError>
where
    T: DeserializeOwned + Serialize + Default,
{
    parse_kind(&read(path)?, path)
}

/// Like [`load_kind`], from text.
///
/// # Errors
/// [`ConfigError`] as [`load_kind`]'s.
pub fn parse_kind<T>(text: &str, path: &Path) -> Result<(T, Vec<Unused>), ConfigError>
where
    T: DeserializeOwned + Serialize + Default,
{
    let given = document(text, path)?;
    let own = serde_json::to_value(T::default())
        .map_err(|error| ConfigError::BadValue { path: path.to_owned(), reason: error.to_string() })?;
    for key in IDENTITY {
        let (said, wanted) = (text_of(&given, key), text_of(&own, key));
        let group = |text: &str| text.split('/').next().unwrap_or_default().to_owned();
        if !said.is_empty() && group(&said) != group(&wanted) {
            return Err(ConfigError::OtherKind { path: path.to_owned(), key, given: said, wanted });
        }
    }
    let read = over_defaults(&given, text, path)?;
    for key in IDENTITY {
        if given.get(key).is_none() {
            return Err(ConfigError::Cut { path: path.to_owned(), key, wanted: text_of(&own, key) });
        }
    }
    Ok(read)
}

/// What every file of a program begins with, and what a damaged one lost.
const IDENTITY: [&str; 2] = ["apiVersion", "kind"];

fn text_of(value: &Value, key: &str) -> String {
    match value.get(key) {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let read_error = |source| ConfigError::Read { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(read_error)?.len();
    if size > MAX_BYTES {
        let reason = format!("file has {size} bytes, more than the limit of {MAX_BYTES}");
        return Err(ConfigError::BadValue { path: path.to_owned(), reason });
    }
    std::fs::read_to_string(path).map_err(read_error)
}

fn document(text: &str, path: &Path) -> Result<Value, ConfigError> {
    let mut given: Value = match text.trim() {
        "" => Value::Object(serde_json::Map::new()),
        _ => serde_saphyr::from_str(text)
            .map_err(|error| ConfigError::NotYaml { path: path.to_owned(), reason: error.to_string() })?,
    };
    if given.is_null() {
        given = Value::Object(serde_json::Map::new());
    }
    if !given.is_object() {
        let reason = "is a list or a text, not keys and values".to_owned();
        return Err(ConfigError::BadValue { path: path.to_owned(), reason });
    }
    drop_nulls(&mut given);
    Ok(given)
}

fn over_defaults<T: DeserializeOwned + Serialize>(
    given: &Value,
    text: &str,
    path: &Path,
) -> Result<(T, Vec<Unused>), ConfigError> {
    let bad = |reason| ConfigError::BadValue { path: path.to_owned(), reason };
    let value: T = serde_path_to_error::deserialize(given).map_err(|error| {
        let key = error.path().to_string();
        let line =
            place::line_of(text, error.path()).map_or_else(String::new, |line| format!(" (line {line})"));
        bad(format!("{key}{line}: {}", error.inner()))
    })?;
    let known = serde_json::to_value(&value).map_err(|error| bad(error.to_string()))?;
    let mut unknown = Vec::new();
    collect_unknown(given, &known, "", &mut unknown);
    Ok((value, unknown))
}

/// A key without a value is a key that is not there, as Go's decoders have it.
fn drop_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, field| !field.is_null());
        fields.values_mut().for_each(drop_nulls);
    }
}

/// Keys of `given` that `known` (the value written back with all its keys) does not have.
fn collect_unknown(given: &Value, known: &Value, at: &str, unknown: &mut Vec<Unused>) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            for (key, value) in given {
                let name = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                match known.get(key) {
                    Some(inner) => collect_unknown(value, inner, &name, unknown),
                    None => leaves(value, name, unknown),
                }
            }
        }
        (Value::Array(given), Value::Array(known)) => {
            for (index, (value, inner)) in given.iter().zip(known).enumerate() {
                collect_unknown(value, inner, &format!("{at}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

fn leaves(value: &Value, key: String, unknown: &mut Vec<Unused>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, inner) in fields {
                leaves(inner, format!("{key}.{name}"), unknown);
            }
        }
        _ => unknown.push(Unused { key, value: value.clone() }),
    }
}

/// Logs what a start passes over: a line for each warning (key and what does not happen), one for all that is harmless.
pub fn tell<T: std::fmt::Display>(path: &Path, warnings: &[(String, T)], harmless: &[String]) {
    let path = path.display();
    for (key, text) in warnings {
        tracing::warn!(%path, key, note = %text, "configuration key");
    }
    if !harmless.is_empty() {
        tracing::info!(%path, count = harmless.len(), "keys of the configuration that change nothing here");
        tracing::debug!(%path, keys = harmless.join(" "), "those keys");
    }
}

/// Writes a value as YAML.
///
/// # Errors
/// The reason why the value has no form in YAML, such as a map whose keys are maps.
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
        assert_eq!(unknown, ["inner.speed", "other.x"]);
        assert_eq!(read("").unwrap().0, Outer::default());
        assert_eq!(read("name:\ninner: null\n").unwrap().0, Outer::default());
    }

    #[test]
    fn a_bad_value_names_the_file_the_key_and_the_line() {
        let error = read("name: a\n\ninner:\n  port: often\n").unwrap_err().to_string();
        assert!(error.starts_with("configuration file /etc/x.yaml: inner.port (line 4): "), "{error}");
        assert!(matches!(read("a: [1"), Err(ConfigError::NotYaml { .. })));
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Kinded {
        api_version: String,
        kind: String,
        ports: Vec<u16>,
    }
    impl Default for Kinded {
        fn default() -> Self {
            Kinded { api_version: "x.io/v2".into(), kind: "X".into(), ports: Vec::new() }
        }
    }

    #[test]
    fn a_file_that_says_it_is_something_else_is_refused() {
        let read = |text: &str| parse_kind::<Kinded>(text, Path::new("/etc/x.yaml"));
        assert!(read("apiVersion: x.io/v1alpha1\nkind: X\nports: [1]\n").is_ok());
        for text in [
            "",
            " \n",
            "# all is said\n",
            "kind: X",
            "apiVersion: x.io/v2\nports: [1]",
            "kind:\napiVersion: x.io/v2",
        ] {
            let error = read(text).unwrap_err();
            assert!(matches!(error, ConfigError::Cut { .. }), "{text}: {error}");
        }
        assert!(read("- a\n").is_err() && read("kind: ''").is_err());
        for (text, named) in
            [("kind: Other", "\"Other\""), ("apiVersion: y.io/v2", "\"x.io/v2\""), ("kind: 7", "\"7\"")]
        {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let error = read("kind: X\nports:\n- 1\n- x\n").unwrap_err().to_string();
        assert!(error.contains("ports[1] (line 4)"), "{error}");
    }
}
