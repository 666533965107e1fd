//! Expectations against what came.

use serde_json::Value;

use crate::case::Expected;
use crate::words::Words;

/// What is at a place (see [`Expected`]).
pub(crate) fn at<'a>(value: &'a Value, place: &str) -> Option<&'a Value> {
    let mut found = value;
    for part in split(place) {
        found = match part.strip_prefix('[').and_then(|part| part.strip_suffix(']')) {
            Some(wanted) => {
                let (key, wanted) = wanted.split_once('=')?;
                found.as_array()?.iter().find(|item| {
                    let inner = key.split('.').try_fold(*item, |inner, key| inner.get(key));
                    inner.is_some_and(|inner| plain(inner) == wanted)
                })?
            }
            None => match found {
                Value::Array(items) => items.get(part.parse::<usize>().ok()?)?,
                Value::Object(fields) => fields.get(&part.replace("~1", "/").replace("~0", "~"))?,
                _ => return None,
            },
        };
    }
    Some(found)
}

/// The parts of a place; a slash within brackets does not part.
fn split(place: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut inside = false;
    for letter in place.chars() {
        match letter {
            '/' if !inside => parts.push(String::new()),
            _ => {
                inside = (inside || letter == '[') && letter != ']';
                if let Some(part) = parts.last_mut() {
                    part.push(letter);
                }
            }
        }
    }
    parts
}

/// A value as one writes it: texts without quotes.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// All that is not as expected.
pub(crate) fn problems(expected: &Expected, got: &Value, words: &Words) -> Vec<String> {
    let mut problems = Vec::new();
    for (place, wanted) in &expected.expect {
        let place = words.fill(place);
        let problem = problem(&words.fill_value(wanted), at(got, &place));
        problems.extend(problem.map(|problem| format!("{}{problem}", named(&place))));
    }
    for place in &expected.present {
        let place = words.fill(place);
        if at(got, &place).is_none() {
            problems.push(format!("{}expected to be present, got nothing", named(&place)));
        }
    }
    for place in &expected.absent {
        let place = words.fill(place);
        if let Some(found) = at(got, &place) {
            problems.push(format!("{}expected to be absent, got {found}", named(&place)));
        }
    }
    problems
}

fn named(place: &str) -> String {
    if place.is_empty() { String::new() } else { format!("{place}: ") }
}

const MATCHERS: [&str; 9] =
    ["equals", "matches", "length", "contains", "lacks", "not", "greater", "has", "typed"];

/// What is not as `wanted` says; `got` is `None` where nothing is.
pub(crate) fn problem(wanted: &Value, got: Option<&Value>) -> Option<String> {
    let shown = || got.map_or_else(|| "nothing".to_owned(), short);
    let matchers = wanted
        .as_object()
        .filter(|fields| !fields.is_empty() && fields.keys().all(|key| MATCHERS.contains(&key.as_str())));
    let Some(matchers) = matchers else {
        return (got != Some(wanted)).then(|| format!("expected {}, got {}", short(wanted), shown()));
    };
    matchers.iter().find_map(|(matcher, wanted)| {
        (!holds(matcher, wanted, got))
            .then(|| format!("expected {matcher} {}, got {}", short(wanted), shown()))
    })
}

fn holds(matcher: &str, wanted: &Value, got: Option<&Value>) -> bool {
    let Some(got) = got else { return matches!(matcher, "not" | "lacks") };
    match matcher {
        "equals" => got == wanted,
        "not" => got != wanted,
        "matches" => wanted
            .as_str()
            .and_then(|pattern| regex::Regex::new(pattern).ok())
            .is_some_and(|pattern| pattern.is_match(&plain(got))),
        "length" => wanted.as_u64().map(|length| length as usize) == length(got),
        "contains" => contains(got, wanted),
        "lacks" => !contains(got, wanted),
        "greater" => match (plain(got).parse::<f64>(), plain(wanted).parse::<f64>()) {
            (Ok(got), Ok(wanted)) => got > wanted,
            _ => false,
        },
        "has" => has(got, wanted),
        "typed" => kind(got) == wanted.as_str().unwrap_or_default(),
        _ => false,
    }
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::Array(items) => Some(items.len()),
        Value::Object(fields) => Some(fields.len()),
        Value::String(text) => Some(text.len()),
        _ => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn contains(value: &Value, part: &Value) -> bool {
    match value {
        Value::String(text) => part.as_str().is_some_and(|part| text.contains(part)),
        Value::Array(items) => items.iter().any(|item| has(item, part)),
        Value::Object(fields) => part.as_str().is_some_and(|part| fields.contains_key(part)),
        _ => false,
    }
}

/// True if `value` has all that `part` has.
fn has(value: &Value, part: &Value) -> bool {
    match (value, part) {
        (Value::Object(fields), Value::Object(part)) => {
            part.iter().all(|(key, part)| fields.get(key).is_some_and(|value| has(value, part)))
        }
        (Value::Array(items), Value::Array(part)) => {
            items.len() == part.len() && items.iter().zip(part).all(|(item, part)| has(item, part))
        }
        _ => value == part,
    }
}

/// A value for a message.
pub(crate) fn short(value: &Value) -> String {
    const LIMIT: usize = 900;
    let text = value.to_string();
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}... ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_name_elements_by_a_field() {
        let items =
            json!([{ "metadata": { "name": "a/b" }, "n": 1 }, { "metadata": { "name": "c" }, "n": 2 }]);
        let value = json!({ "items": items });
        assert_eq!(at(&value, "/items/[metadata.name=a/b]/n"), Some(&json!(1)));
        assert_eq!(at(&value, "/items/1/n"), Some(&json!(2)));
        assert_eq!(at(&value, "/items/[metadata.name=x]"), None);
        assert_eq!(at(&value, ""), Some(&value));
    }

    #[test]
    fn matchers_say_what_they_expected() {
        let got = json!(["a", { "k": 1, "l": 2 }]);
        assert_eq!(problem(&json!({ "contains": { "k": 1 } }), Some(&got)), None);
        assert_eq!(problem(&json!({ "length": 2 }), Some(&got)), None);
        assert_eq!(
            problem(&json!({ "lacks": "a" }), Some(&got)).unwrap().split(',').next(),
            Some("expected lacks \"a\"")
        );
        assert_eq!(problem(&json!("x"), None).unwrap(), "expected \"x\", got nothing");
        assert_eq!(problem(&json!({ "greater": "9" }), Some(&json!("10"))), None);
        assert_eq!(problem(&json!({ "matches": "^a.c$" }), Some(&json!("abc"))), None);
    }
}
