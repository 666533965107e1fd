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

    /// The last warning or error that passes the first of these, without its time and place; if none does, that of the next.
    pub(crate) fn last(&self, passes: &[Passes]) -> Option<String> {
        let text = self.text();
        let last = |passes: &Passes| text.lines().rev().filter_map(Line::read).find(|line| passes(line));
        passes.iter().find_map(last).map(|line| line.text.to_owned())
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

/// What a line must be to be told.
pub(crate) type Passes = fn(&Line<'_>) -> bool;

/// Why a node has no certificate yet: EdgeHub's trouble with it, or the error that EdgeCore ended by; without these, what else failed.
pub(crate) const OF_A_JOIN: &[Passes] = &[
    |line| line.target.starts_with("edgehub") || (line.is_error && line.target == "daemon::exit"),
    |line| line.is_error,
];

/// Why CloudCore ends or does not become ready.
pub(crate) const OF_A_START: &[Passes] =
    &[|line| line.is_error || !line.target.starts_with("daemon::config")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_node_from_joining_is_told_before_other_troubles() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edgecore.log");
        let log = Log::file(path.clone());
        let said = |lines: &[&str]| {
            std::fs::write(&path, lines.join("\n")).unwrap();
            log.last(OF_A_JOIN).unwrap_or_default()
        };
        let refused = "2026-01-01T00:00:01Z  WARN edgehub::enroll: no certificate yet error=\"refused\"";
        let short = "2026-01-01T00:00:02Z ERROR edged::eviction: node is short and there is no pod to evict";
        let pressure = "2026-01-01T00:00:02Z  WARN edged::eviction: pressure on the node changed disk=true";
        let ended =
            "2026-01-01T00:00:03Z ERROR daemon::exit: stopped by an error error=\"the port is taken\"";
        assert_eq!(said(&[refused, short, pressure]), "no certificate yet error=\"refused\"");
        assert_eq!(said(&[refused, ended, short]), "stopped by an error error=\"the port is taken\"");
        assert_eq!(said(&[pressure, short, pressure]), "node is short and there is no pod to evict");
        assert_eq!(said(&[pressure]), "");
    }

    #[test]
    fn the_last_trouble_since_the_start_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edgecore.log");
        std::fs::write(&path, "2026-01-01T00:00:00Z ERROR edgecore: an old one\n").unwrap();
        let log = Log::file(path.clone());
        assert_eq!(log.last(OF_A_START), None);
        let lines = "2026-01-01T00:00:01Z  WARN daemon::config: configuration key key=x\n\
            2026-01-01T00:00:01Z  WARN edgehub::enroll: no certificate yet error=\"refused\"\n\
            2026-01-01T00:00:02Z  WARN edged: no runtime\n\
            2026-01-01T00:00:02Z  INFO edgecore: all else is well\n";
        let old = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{old}{lines}")).unwrap();
        assert_eq!(log.last(OF_A_JOIN).as_deref(), Some("no certificate yet error=\"refused\""));
        assert_eq!(log.last(OF_A_START).as_deref(), Some("no runtime"));
        std::fs::write(&path, "2026-01-01T00:00:03Z ERROR edgecore: anew\n").unwrap();
        assert_eq!(log.last(OF_A_START).as_deref(), Some("anew"));
    }
}
