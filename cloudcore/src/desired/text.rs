//! Texts of objects, which may leave memory while nobody sends them and are fetched when somebody does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use message::Json;

/// The text of one state of an object; clones share it.
#[derive(Clone, Debug)]
pub struct Text(Arc<Cell>);

#[derive(Debug)]
struct Cell(Mutex<Option<Json>>);

impl Cell {
    fn lock(&self) -> MutexGuard<'_, Option<Json>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Text {
    /// The text, if it is in memory.
    pub fn here(&self) -> Option<Json> {
        self.0.lock().clone()
    }

    /// True if the text is in memory.
    pub fn is_here(&self) -> bool {
        self.0.lock().is_some()
    }

    /// All clones have the text again.
    pub(super) fn fill(&self, text: &Text) {
        *self.0.lock() = text.here();
    }
}

impl From<Json> for Text {
    fn from(text: Json) -> Text {
        Text(Arc::new(Cell(Mutex::new(Some(text)))))
    }
}

/// What an entry here costs beside its text, in bytes.
const ENTRY: usize = 64;

/// Keeps the texts that came last; the oldest go when all together are larger than a limit. The newest stays, so that it can
/// be sent.
#[derive(Debug)]
pub(super) struct RecentTexts {
    /// In bytes.
    limit: usize,
    bytes: usize,
    oldest_first: VecDeque<(Weak<Cell>, usize)>,
}

impl RecentTexts {
    pub(super) fn new(limit: usize) -> RecentTexts {
        RecentTexts { limit, bytes: 0, oldest_first: VecDeque::new() }
    }

    /// `text` has come, or has come back.
    pub(super) fn note(&mut self, text: &Text) {
        let bytes = text.here().map_or(0, |text| text.text().len()) + ENTRY;
        self.oldest_first.push_back((Arc::downgrade(&text.0), bytes));
        self.bytes += bytes;
        while self.bytes > self.limit
            && self.oldest_first.len() > 1
            && let Some((oldest, bytes)) = self.oldest_first.pop_front()
        {
            self.bytes -= bytes;
            if let Some(cell) = oldest.upgrade() {
                *cell.lock() = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_texts_go_first_and_come_back_for_every_clone() {
        let mut recent = RecentTexts::new(2 * (ENTRY + 10));
        let texts: Vec<Text> = (0..3).map(|n| Text::from(Json::string(&format!("text-{n:03}")))).collect();
        let clone = texts[0].clone();
        texts.iter().for_each(|text| recent.note(text));
        let here = || texts.iter().map(Text::is_here).collect::<Vec<_>>();
        assert_eq!(here(), [false, true, true]);
        texts[0].fill(&Text::from(Json::string("text-000")));
        recent.note(&texts[0]);
        assert_eq!(here(), [true, false, true]);
        assert_eq!(clone.here().unwrap().text(), "\"text-000\"");
    }
}
