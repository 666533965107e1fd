//! Texts by number.

use std::collections::HashMap;

#[derive(Default)]
pub(crate) struct Strings {
    texts: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl Strings {
    /// The number of a text, which is added if it is new.
    pub(crate) fn index(&mut self, text: &str) -> usize {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        self.texts.push(text.to_owned());
        self.numbers.insert(text.to_owned(), self.texts.len() - 1);
        self.texts.len() - 1
    }

    pub(crate) fn all(&self) -> &[String] {
        &self.texts
    }
}
