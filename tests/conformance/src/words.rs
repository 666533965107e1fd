//! What a case knows while it runs: its names and what its steps captured.

use std::collections::BTreeMap;

use serde_json::Value;

#[derive(Default)]
pub(crate) struct Words {
    values: BTreeMap<String, String>,
}

impl Words {
    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.values.insert(name.to_owned(), value);
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Puts values in the place of `$name`, `${name}` and `${x*N}`; what has no value stays.
    pub(crate) fn fill(&self, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            filled.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let (word, after) = word(rest);
            match self.value(word) {
                Some(value) => {
                    filled.push_str(&value);
                    rest = after;
                }
                None => filled.push('$'),
            }
        }
        filled + rest
    }

    fn value(&self, word: &str) -> Option<String> {
        if let Some((letters, times)) = word.split_once('*') {
            return times.parse().ok().map(|times| letters.repeat(times));
        }
        self.values.get(word).cloned()
    }

    /// The same in all texts and keys of a value.
    pub(crate) fn fill_value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.fill(text)),
            Value::Array(items) => items.iter().map(|item| self.fill_value(item)).collect(),
            Value::Object(fields) => Value::Object(
                fields.iter().map(|(key, value)| (self.fill(key), self.fill_value(value))).collect(),
            ),
            other => other.clone(),
        }
    }
}

/// The word at the beginning of `rest`, and what follows it.
fn word(rest: &str) -> (&str, &str) {
    if let Some(braced) = rest.strip_prefix('{') {
        return braced.split_once('}').unwrap_or(("", rest));
    }
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    rest.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_words_are_filled_in_and_others_stay() {
        let mut words = Words::default();
        words.set("ns", "mine".to_owned());
        words.set("rv", "7".to_owned());
        assert_eq!(words.fill("/a/$ns/b?rv=$rv"), "/a/mine/b?rv=7");
        assert_eq!(words.fill("${ns}x ${a*3} $patch ^a$ $"), "minex aaa $patch ^a$ $");
    }
}
