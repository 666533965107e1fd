//! What a program that was just started says of its troubles: in its log file, or in the journal.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Most of a log that is read at once.
const MAX_BYTES: u64 = 1024 * 1024;

/// A program's words since this was made.
pub(crate) enum Log {
    File { path: PathBuf, from: u64 },
    Journal { unit: &'static str, since: i64 },
}

impl Log {
    pub(crate) fn file(path: PathBuf) -> Log {
        let from = std::fs::metadata(&path).map_or(0, |file| file.len());
        Log::File { path, from }
    }

    pub(crate) fn journal(unit: &'static str) -> Log {
        Log::Journal { unit, since: daemon::clock::unix_seconds() }
    }

    /// How an operator reads all of it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Log::File { path, .. } => path.display().to_string(),
            Log::Journal { unit, .. } => format!("journalctl -u {unit}"),
        }
    }

    /// The last warning or error that passes, without its time and place.
    pub(crate) fn last(&self, passes: fn(&Line<'_>) -> bool) -> Option<String> {
        let text = self.text();
        let found = text.lines().rev().find_map(|line| Line::read(line).filter(passes));
        found.map(|line| line.text.to_owned())
    }

    fn text(&self) -> String {
        match self {
            Log::File { path, from } => since(path, *from).unwrap_or_default(),
            Log::Journal { unit, since } => {
                let since = format!("@{since}");
                let arguments = ["-u", unit, "--since", &since, "-n", "200", "-o", "cat", "--no-pager"];
                let output = Command::new("journalctl").args(arguments).stderr(Stdio::null()).output();
                output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
            }
        }
    }
}

fn since(path: &Path, from: u64) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    // A log that is shorter than it was has been begun anew.
    let from = if from > length { 0 } else { from };
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(MAX_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `TIME LEVEL target: text`, of a warning or an error.
pub(crate) struct Line<'a> {
    pub is_error: bool,
    pub target: &'a str,
    pub text: &'a str,
}

impl Line<'_> {
    fn read(line: &str) -> Option<Line<'_>> {
        let (_, rest) = line.split_once(' ')?;
        let (level, rest) = rest.trim_start().split_once(' ')?;
        if !["WARN", "ERROR"].contains(&level) {
            return None;
        }
        let (target, text) = rest.split_once(": ")?;
        Some(Line { is_error: level == "ERROR", target, text })
    }
}

/// Why a node has no certificate yet.
pub(crate) fn about_the_link(line: &Line<'_>) -> bool {
    line.is_error || line.target.starts_with("edgehub")
}

/// Why a program ends or does not become ready.
pub(crate) fn trouble(line: &Line<'_>) -> bool {
    line.is_error || !line.target.starts_with("daemon::config")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_trouble_since_the_start_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edgecore.log");
        std::fs::write(&path, "2026-01-01T00:00:00Z ERROR edgecore: an old one\n").unwrap();
        let log = Log::file(path.clone());
        assert_eq!(log.last(trouble), None);
        let lines = "2026-01-01T00:00:01Z  WARN daemon::config: configuration key key=x\n\
            2026-01-01T00:00:01Z  WARN edgehub::enroll: no certificate yet error=\"refused\"\n\
            2026-01-01T00:00:02Z  WARN edged: no runtime\n\
            2026-01-01T00:00:02Z  INFO edgecore: all else is well\n";
        let old = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{old}{lines}")).unwrap();
        assert_eq!(log.last(about_the_link).as_deref(), Some("no certificate yet error=\"refused\""));
        assert_eq!(log.last(trouble).as_deref(), Some("no runtime"));
        std::fs::write(&path, "2026-01-01T00:00:03Z ERROR edgecore: anew\n").unwrap();
        assert_eq!(log.last(trouble).as_deref(), Some("anew"));
    }
}
