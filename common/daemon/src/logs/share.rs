//! How much each place in the code may write, in lines and bytes of a window. What is held back is counted and told
//! once, in one line.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::callsite::Identifier;
use tracing::{Level, Metadata};

const WINDOW: Duration = Duration::from_secs(10);
/// Warnings and errors of one place that are written in a window.
const LINES: u32 = 100;
/// Bytes of one place that are written in a window, at any level: a place that says nothing else for a day writes 280 MB.
const BYTES: usize = 32 * 1024;
/// The same of what is only written when it was asked for.
const DETAIL_BYTES: usize = 256 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Written,
    HeldBack,
}

/// What a place said in a window that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub lines: u64,
    place: (&'static str, u32),
}

impl fmt::Display for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, line) = self.place;
        write!(
            formatter,
            "{} lines of one kind left out in {} s ({file}:{line})",
            self.lines,
            WINDOW.as_secs()
        )
    }
}

/// What one place said in its window.
struct Said {
    began: Instant,
    lines: u32,
    bytes: usize,
    held_back: u64,
    place: (&'static str, u32),
}

#[derive(Default)]
struct Callsites {
    said: HashMap<Identifier, Said>,
    /// Callsites that held something back which was not told yet.
    untold: usize,
}

#[derive(Default)]
pub(super) struct Shares(Mutex<Callsites>);

impl Shares {
    fn lock(&self) -> MutexGuard<'_, Callsites> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was held back in windows that have ended, each told once.
    pub(super) fn ended(&self, now: Instant) -> Vec<Held> {
        let mut places = self.lock();
        if places.untold == 0 {
            return Vec::new();
        }
        let over = |said: &&mut Said| said.held_back > 0 && now.duration_since(said.began) >= WINDOW;
        let held = places.said.values_mut().filter(over);
        let held: Vec<Held> =
            held.map(|said| Held { lines: std::mem::take(&mut said.held_back), place: said.place }).collect();
        places.untold -= held.len();
        held
    }

    /// Whether a place may write a line now.
    pub(super) fn may(&self, place: &'static Metadata<'static>, now: Instant) -> Line {
        let mut places = self.lock();
        let said = places.said.entry(place.callsite()).or_insert_with(|| {
            let place = (place.file().unwrap_or_default(), place.line().unwrap_or_default());
            Said { began: now, lines: 0, bytes: 0, held_back: 0, place }
        });
        if now.duration_since(said.began) >= WINDOW {
            (said.began, said.lines, said.bytes) = (now, 0, 0);
        }
        said.lines = said.lines.saturating_add(1);
        let level = *place.level();
        let most = if level > Level::INFO { DETAIL_BYTES } else { BYTES };
        if said.bytes < most && (level > Level::WARN || said.lines <= LINES) {
            return Line::Written;
        }
        said.held_back += 1;
        let is_first = said.held_back == 1;
        places.untold += usize::from(is_first);
        Line::HeldBack
    }

    /// What a line took.
    pub(super) fn wrote(&self, place: &'static Metadata<'static>, bytes: usize) {
        if let Some(said) = self.lock().said.get_mut(&place.callsite()) {
            said.bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::callsite::Callsite;
    use tracing::metadata::Kind;

    #[test]
    fn each_place_has_its_share_and_what_is_held_back_is_told_once() {
        let shares = Shares::default();
        let one =
            tracing::callsite!(name: "one", kind: Kind::EVENT, level: Level::WARN, fields: x).metadata();
        let other =
            tracing::callsite!(name: "other", kind: Kind::EVENT, level: Level::WARN, fields: x).metadata();
        let began = Instant::now();
        let written = (0..LINES + 7).filter(|_| shares.may(one, began) == Line::Written).count();
        assert_eq!(written, LINES as usize);
        assert_eq!(shares.may(other, began), Line::Written);
        assert!(shares.ended(began).is_empty(), "the window has not ended");
        let held = shares.ended(began + WINDOW);
        assert_eq!(held.iter().map(|held| held.lines).collect::<Vec<_>>(), [7]);
        assert!(shares.ended(began + WINDOW).is_empty());
        assert_eq!(shares.may(one, began + WINDOW), Line::Written);
    }

    #[test]
    fn bytes_count_at_every_level() {
        for level in [Level::ERROR, Level::INFO, Level::DEBUG] {
            let shares = Shares::default();
            let place = match level {
                Level::ERROR => {
                    tracing::callsite!(name: "e", kind: Kind::EVENT, level: Level::ERROR, fields: x)
                }
                Level::INFO => {
                    tracing::callsite!(name: "i", kind: Kind::EVENT, level: Level::INFO, fields: x)
                }
                _ => tracing::callsite!(name: "d", kind: Kind::EVENT, level: Level::DEBUG, fields: x),
            };
            let (place, now): (&'static Metadata<'static>, _) = (place.metadata(), Instant::now());
            assert_eq!(shares.may(place, now), Line::Written);
            shares.wrote(place, DETAIL_BYTES);
            assert_eq!(shares.may(place, now), Line::HeldBack, "{level}");
            assert_eq!(shares.may(place, now + WINDOW), Line::Written, "{level}");
        }
    }
}
