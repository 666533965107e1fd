//! YAML as Kubernetes reads it (`sigs.k8s.io/yaml`): YAML 1.1, in which a number that begins with zero is octal. A mode
//! of a file is written so: `defaultMode: 0644` means 420, as `0o644` does.

use serde_json::Value;
use std::thread;

use crate::decode::Strict;

/// Levels of maps and lists: as many as are read of JSON.
const DEPTH: usize = 127;

/// The reader recurses, and takes some 32 KiB a level where it is not optimised: more than is left to a task deep in its work. Only
/// what is touched takes memory.
const STACK: usize = 16 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct YamlError(String);

/// Reads one document, which may be JSON.
///
/// # Errors
/// [`YamlError`]: the text is not YAML, or nests or repeats itself beyond the limits.
pub fn parse(text: &str) -> Result<Value, YamlError> {
    with_room(|| {
        serde_saphyr::from_str_with_options(text, options()).map_err(|error| YamlError(error.to_string()))
    })
}

/// Reads all documents of a text.
///
/// # Errors
/// [`YamlError`] as [`parse`]'s, of the first document that cannot be read.
pub fn parse_all(text: &str) -> Result<Vec<Value>, YamlError> {
    with_room(|| {
        serde_saphyr::from_multiple_with_options(text, options())
            .map_err(|error| YamlError(error.to_string()))
    })
}

/// Writes a document.
///
/// # Errors
/// [`YamlError`]: it cannot be told in YAML.
pub fn text(value: &Value) -> Result<String, YamlError> {
    serde_saphyr::to_string(value).map_err(|error| YamlError(error.to_string()))
}

/// Reads one document, and notes which keys come twice; [`parse`] refuses them.
///
/// # Errors
/// [`YamlError`] as [`parse`]'s.
pub fn parse_strict(text: &str) -> Result<Strict, YamlError> {
    with_room(|| strict(text))
}

fn strict(text: &str) -> Result<Strict, YamlError> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        budget: serde_saphyr::budget! { max_depth: DEPTH },
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
    };
    let mut read: Strict =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| YamlError(error.to_string()))?;
    if !read.duplicates.is_empty() {
        // A reader that refuses them says where.
        let refused = serde_saphyr::from_str_with_options::<Value>(text, self::options()).err();
        read.line = refused.and_then(|error| error.location()).map(|location| location.line());
    }
    Ok(read)
}

/// Reads on a thread of its own.
fn with_room<T: Send>(read: impl FnOnce() -> Result<T, YamlError> + Send) -> Result<T, YamlError> {
    thread::scope(|scope| {
        let reader =
            thread::Builder::new().name("yaml".to_owned()).stack_size(STACK).spawn_scoped(scope, read);
        let reader =
            reader.map_err(|error| YamlError(format!("starting a thread that reads YAML: {error}")))?;
        reader.join().unwrap_or_else(|_| Err(YamlError("the reader of YAML failed".to_owned())))
    })
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        legacy_octal_numbers: true,
        budget: serde_saphyr::budget! { max_depth: DEPTH },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_nests_deeply_is_read_or_refused_however_little_room_its_reader_has_left() {
        let read = || {
            let nested = |levels: usize| format!("{}1{}", "{a: ".repeat(levels), "}".repeat(levels));
            assert!(parse(&nested(DEPTH)).is_ok() && parse_strict(&nested(DEPTH)).is_ok());
            assert!(serde_json::from_str::<Value>(&nested(DEPTH).replace('a', "\"a\"")).is_ok());
            assert!(parse(&nested(DEPTH + 1)).is_err() && parse_strict(&nested(DEPTH + 1)).is_err());
            assert!(parse(&nested(5000)).is_err() && parse_strict(&nested(5000)).is_err());
            assert!(parse_all(&nested(5000)).is_err());
        };
        let little = thread::Builder::new().stack_size(512 * 1024).spawn(read).unwrap();
        little.join().unwrap();
    }

    #[test]
    fn numbers_that_begin_with_zero_are_octal_and_what_is_quoted_is_text() {
        let text = "a: 0644\nb: 0o644\nc: 0400\nd: 0\ne: 644\nf: \"0644\"\ng: '0o644'\nh: 0.5\ni: -012\nj: 1.0e3\nk: 0x1f\n";
        let expected = json!({"a": 420, "b": 420, "c": 256, "d": 0, "e": 644, "f": "0644", "g": "0o644", "h": 0.5,
            "i": -10, "j": 1000.0, "k": 31});
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(
            parse_all("mode: 0755\n---\nmode: 0600\n").unwrap(),
            [json!({"mode": 493}), json!({"mode": 384})]
        );
    }

    #[test]
    fn keys_that_come_twice_are_noted_or_refused() {
        let text = "a: 1\nb: {c: 0644, c: 1}\na: 2\n";
        let read = parse_strict(text).unwrap();
        assert_eq!(read.complaints(), ["line 2: key \"c\" already set in map"]);
        assert_eq!(
            (read.value, read.duplicates),
            (json!({"a": 2, "b": {"c": 1}}), vec!["b.c".into(), "a".into()])
        );
        assert!(parse(text).is_err());
        let plain = "a: 0644\nb: [x, 1.5, ~, yes]\nc: {d: e}\n";
        assert_eq!(parse_strict(plain).unwrap().value, parse(plain).unwrap());
    }

    #[test]
    fn what_only_looks_like_an_octal_number_is_read_as_go_does() {
        assert_eq!(parse("a: 0899\nb: 00:1a\nc: 1.20\nd: 2026-11-28\n").unwrap()["a"], json!(899.0));
        assert_eq!(parse("b: 00:1a\nd: 2026-11-28\n").unwrap(), json!({"b": "00:1a", "d": "2026-11-28"}));
        assert!(parse("a: [").is_err());
    }
}
