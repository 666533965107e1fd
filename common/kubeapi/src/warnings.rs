//! What is told beside the answer: to the client by `Warning` headers (RFC 7234 5.5, code 299), to the audit log by annotations.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use http::header::{HeaderValue, WARNING};

/// Characters of all warnings of one answer; what is beyond is left out.
const ALL: usize = 4096;
/// Bytes of an annotation.
const ANNOTATION: usize = 10 * 1024;

/// The warnings of one request. Clones share them.
#[derive(Clone, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>, Arc<Mutex<BTreeMap<String, String>>>);

impl Warnings {
    /// Adds a warning, unless the same was given.
    pub fn add(&self, text: String) {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let length: usize = texts.iter().map(String::len).sum();
        if length + text.len() <= ALL && !texts.contains(&text) {
            texts.push(text);
        }
    }

    /// Adds an annotation of the audit log; what is too long is cut off.
    pub fn annotate(&self, key: &str, mut value: String) {
        if value.len() > ANNOTATION {
            value.truncate(value.floor_char_boundary(ANNOTATION));
        }
        self.1.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), value);
    }

    pub(crate) fn annotations(&self) -> BTreeMap<String, String> {
        std::mem::take(&mut *self.1.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let texts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for text in texts {
            if let Ok(value) = HeaderValue::from_bytes(header(&text).as_bytes()) {
                headers.append(WARNING, value);
            }
        }
    }
}

/// `299 - "text"`, without control characters.
fn header(text: &str) -> String {
    let mut header = "299 - \"".to_owned();
    for letter in text.chars().filter(|letter| !letter.is_control()) {
        if matches!(letter, '"' | '\\') {
            header.push('\\');
        }
        let _ = header.write_char(letter);
    }
    header.push('"');
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_told_once_and_as_one_header() {
        let warnings = Warnings::default();
        for text in ["say \"no\"\r\nX-Other: 1", "b", "b"] {
            warnings.add(text.to_owned());
        }
        warnings.add("x".repeat(ALL));
        let mut headers = HeaderMap::new();
        warnings.tell(&mut headers);
        let told: Vec<&str> = headers.get_all(WARNING).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(told, ["299 - \"say \\\"no\\\"X-Other: 1\"", "299 - \"b\""]);
    }
}
