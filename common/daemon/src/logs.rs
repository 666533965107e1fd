//! Log lines on standard error or in a file ([`log_file`]); levels from `CAUSEWAY_LOG` (`debug`, or `warn,edged=debug`), default `info`.
//! What one place in the code says beyond its share is counted instead, and what others said is written so that it stays
//! within its line: what a peer does wrong must neither fill the disk nor forge what is read.

mod share;
mod text;

use std::fmt as form;

use tokio::time::Instant;
use tracing::{Event, Subscriber};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::format::{self, Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::log_file;
use share::{Line, Shares};

/// Installs the subscriber. Call once, in main. `verbose` is the default when the variable is unset.
pub fn init(verbose: bool) {
    let (asked, problem) = asked();
    let filter = asked.unwrap_or_else(|| levels(verbose));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = lines_to(log_file::writer, ansi);
    // An error means that a test installed one already.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    if let Some(problem) = problem {
        tracing::warn!(error = %problem, "CAUSEWAY_LOG is not understood, the default holds");
    }
}

/// Writes lines to `writer`.
fn lines_to<S, W>(writer: W, ansi: bool) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    let fields = format::debug_fn(|writer, field, value| match field.name() {
        "message" => text::put(writer, value),
        name => {
            write!(writer, "{name}=")?;
            text::put(writer, value)
        }
    });
    let lines = Lines { format: Format::default().with_ansi(ansi), shares: Shares::default() };
    fmt::layer().with_writer(writer).with_ansi(ansi).fmt_fields(fields.delimited(" ")).event_format(lines)
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

/// Lines in the usual form, as far as their place in the code has a share left.
struct Lines {
    format: Format,
    shares: Shares,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> form::Result {
        let (place, now) = (event.metadata(), Instant::now());
        for held in self.shares.ended(now) {
            writeln!(writer, "{held}")?;
        }
        if self.shares.may(place, now) == Line::HeldBack {
            return Ok(());
        }
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        self.shares.wrote(place, line.len());
        writer.write_str(&line)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(std::sync::Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(say: impl FnOnce()) -> String {
        let lines = Written::default();
        let writer = lines.clone();
        let layer = lines_to(move || writer.clone(), false);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn what_a_peer_says_makes_no_line_of_its_own_and_no_escape() {
        let text = "a\nERROR forged\u{1b}[2J\u{9b}\u{202e}\u{2028}\rb";
        let log = written(|| tracing::info!(name = %text, other = text, error = ?text, "{text}"));
        assert_eq!(log.matches('\n').count(), 1, "{log:?}");
        let raw = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{2028}".contains(c);
        assert!(!log.contains(raw), "{log:?}");
        assert!(log.contains(r"a\nERROR forged"), "{log:?}");
    }

    #[test]
    fn a_long_field_is_cut_and_says_by_how_much() {
        let text = "x".repeat(2 << 20);
        let log = written(|| tracing::info!(name = %text, number = 7, "said"));
        assert!(log.len() < 2000, "{} bytes", log.len());
        assert!(
            log.contains("2096128 bytes more") && log.contains("number=7"),
            "{}",
            &log[log.len() - 200..]
        );
    }

    #[test]
    fn one_place_writes_no_more_bytes_than_its_share_at_any_level() {
        let log = written(|| {
            for number in 0..20_000 {
                tracing::info!(number, socket = "/etc/kubeedge/made-up.sock", "mapper registered");
            }
            tracing::info!("another place");
        });
        assert!(log.len() < 100_000, "{} bytes", log.len());
        assert!(log.contains("another place"));
    }
}
