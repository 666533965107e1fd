//! Log lines on standard error or in a file ([`log_file`]); levels from `CAUSEWAY_LOG` (`debug`, or `warn,edgecore::edged=debug`), default `info`.
//! Warnings of one kind beyond a rate are counted instead: what a peer does wrong must not fill the disk.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::log_file;

/// Installs the subscriber. Call once, in main. `verbose` is the default when the variable is unset.
pub fn init(verbose: bool) {
    let (asked, problem) = asked();
    let filter = asked.unwrap_or_else(|| levels(verbose));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = fmt::layer().with_writer(log_file::writer).with_ansi(ansi).with_filter(Rate::default());
    // An error means that a test installed one already.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    if let Some(problem) = problem {
        tracing::warn!(error = %problem, "CAUSEWAY_LOG is not understood, the default holds");
    }
}

/// What the environment asks for, and why that cannot be read.
fn asked() -> (Option<Targets>, Option<String>) {
    let Ok(text) = std::env::var("CAUSEWAY_LOG") else { return (None, None) };
    match text.parse() {
        Ok(levels) => (Some(levels), None),
        Err(error) => (None, Some(format!("{text:?}: {error}"))),
    }
}

fn levels(verbose: bool) -> Targets {
    if !verbose {
        // The Kubernetes client logs each failure that is handed to its caller, who does so as well.
        return Targets::new().with_default(LevelFilter::INFO).with_target("kube_client", LevelFilter::OFF);
    }
    let quiet = ["hyper", "h2", "tower", "rustls"].map(|library| (library, LevelFilter::INFO));
    Targets::new().with_default(LevelFilter::DEBUG).with_targets(quiet)
}

/// Warnings and errors of one place in the code that are written in a window.
const LINES: u32 = 100;
const WINDOW: Duration = Duration::from_secs(10);

/// What one place in the code said in its window.
struct Said {
    began: Instant,
    lines: u32,
}

#[derive(Default)]
struct Rate {
    places: Mutex<HashMap<Identifier, Said>>,
}

impl Rate {
    /// Whether a line may be written, and how many were left out of a window that has ended.
    fn take(&self, place: Identifier, now: Instant) -> (bool, u32) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let said = places.entry(place).or_insert(Said { began: now, lines: 0 });
        let mut left_out = 0;
        if now.duration_since(said.began) >= WINDOW {
            left_out = said.lines.saturating_sub(LINES);
            *said = Said { began: now, lines: 0 };
        }
        said.lines = said.lines.saturating_add(1);
        (said.lines <= LINES, left_out)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Filter<S> for Rate {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN {
            return true;
        }
        let (written, left_out) = self.take(metadata.callsite(), Instant::now());
        if left_out > 0 {
            let (file, line) = (metadata.file().unwrap_or_default(), metadata.line().unwrap_or_default());
            let text = format!("{left_out} lines like the next one left out ({file}:{line})\n");
            // A log that cannot be written has nowhere to be reported.
            let _ = log_file::writer().write_all(text.as_bytes());
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_beyond_the_rate_are_counted_and_every_place_counts_for_itself() {
        let rate = Rate::default();
        let (one, other) =
            (tracing::callsite!(name: "one", kind: tracing::metadata::Kind::EVENT, fields: x), {
                tracing::callsite!(name: "other", kind: tracing::metadata::Kind::EVENT, fields: x)
            });
        use tracing::callsite::Callsite;
        let (one, other) = (one.metadata().callsite(), other.metadata().callsite());
        let began = Instant::now();
        let written = (0..LINES + 7).filter(|_| rate.take(one.clone(), began).0).count();
        assert_eq!(written, LINES as usize);
        assert_eq!(rate.take(other, began), (true, 0));
        assert_eq!(rate.take(one.clone(), began + WINDOW), (true, 7));
        assert_eq!(rate.take(one, began + WINDOW * 2), (true, 0));
    }
}
