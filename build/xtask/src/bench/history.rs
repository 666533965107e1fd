//! `benches/history.jsonl`: one line per landing with what was measured, at which commit, on which machine.
//!
//! ```text
//! {"commit":"1d2c3f4a5e6c","date":"2026-11-29","machine":{"cpu":"...","cores":2,"memory_gib":24,"kernel":"6.1.0"},
//!  "results":{"propagate":{"p50_ms":1.2, ...}, ...}}
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::build;

/// What `record` is given.
#[derive(Args)]
pub(super) struct Record {
    /// What `cargo xtask bench NAME` printed, as NAME=FILE, repeatable: the file's last line RESULT counts.
    #[arg(required = true, value_parser = output)]
    outputs: Vec<(String, PathBuf)>,
}

fn output(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("write NAME=FILE, such as propagate=propagate.log")?;
    Ok((name.to_owned(), PathBuf::from(file)))
}

pub(super) fn path() -> PathBuf {
    build::root().join("benches/history.jsonl")
}

/// Appends a line of the commit that is checked out.
pub(super) fn record(flags: &Record) -> Result<()> {
    let mut results = Map::new();
    for (name, file) in &flags.outputs {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let result = result(&text).with_context(|| format!("in {}", file.display()))?;
        results.insert(name.clone(), result);
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let date = git(&["log", "-1", "--format=%cs"])?;
    let line = json!({"commit": commit, "date": date, "machine": machine(), "results": results});
    let mut text = std::fs::read_to_string(path()).unwrap_or_default();
    text.push_str(&format!("{line}\n"));
    std::fs::write(path(), text).with_context(|| format!("writing {}", path().display()))?;
    println!("recorded {} results of {commit} in {}", flags.outputs.len(), path().display());
    Ok(())
}

/// The object of the last line `RESULT {json}`.
fn result(text: &str) -> Result<Value> {
    let last = text.lines().rev().find_map(|line| line.strip_prefix("RESULT "));
    let last = last.context("no line begins with RESULT; is it the output of cargo xtask bench?")?;
    let value: Value = serde_json::from_str(last).context("the line RESULT is not JSON")?;
    ensure!(value.is_object(), "the line RESULT holds no object");
    Ok(value)
}

fn git(arguments: &[&str]) -> Result<String> {
    let output =
        Command::new("git").args(arguments).current_dir(build::root()).output().context("running git")?;
    ensure!(output.status.success(), "git {} failed", arguments.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Numbers of different machines say nothing of each other: each line names its own.
fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let kib: f64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
    json!({
        "cpu": field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        "cores": std::thread::available_parallelism().map_or(0, |cores| cores.get()),
        "memory_gib": (kib / 1024.0 / 1024.0).round(),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
    })
}

/// One line of the file.
#[derive(Debug)]
pub(super) struct Landing {
    pub commit: String,
    pub date: String,
    pub machine: Value,
    /// `<scenario>.<key>` -> number.
    pub numbers: BTreeMap<String, f64>,
}

/// The lines of a history, oldest first.
pub(super) fn landings(text: &str, path: &Path) -> Result<Vec<Landing>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| landing(line).with_context(|| format!("{}:{}", path.display(), index + 1)))
        .collect()
}

fn landing(line: &str) -> Result<Landing> {
    let value: Value = serde_json::from_str(line).context("not a line of JSON")?;
    let text = |key: &str| {
        let found = value[key].as_str().map(str::to_owned);
        found.with_context(|| format!("the line has no text {key:?}"))
    };
    let results = value["results"].as_object().context("the line has no object \"results\"")?;
    let mut numbers = BTreeMap::new();
    for (scenario, result) in results {
        for (key, number) in result.as_object().into_iter().flatten() {
            if let Some(number) = number.as_f64() {
                numbers.insert(format!("{scenario}.{key}"), number);
            }
        }
    }
    Ok(Landing { commit: text("commit")?, date: text("date")?, machine: value["machine"].clone(), numbers })
}

/// The landing whose commit begins with `name`; `last` is the newest one, `last-1` the one before it.
pub(super) fn find<'a>(landings: &'a [Landing], name: &str) -> Result<&'a Landing> {
    if let Some(back) = name.strip_prefix("last") {
        let back: usize = if back.is_empty() { 0 } else { back.trim_start_matches('-').parse()? };
        let found = landings.iter().rev().nth(back);
        return found.with_context(|| format!("the history has {} lines, no {name}", landings.len()));
    }
    let mut found = landings.iter().filter(|landing| landing.commit.starts_with(name));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => bail!("no line of the history is of commit {name}"),
        (Some(_), Some(_)) => {
            bail!("several lines of the history begin with {name}: write more of it, or last-N")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: &str = concat!(
        r#"{"commit":"aa11","date":"2026-11-28","machine":{"cores":2},"results":{"idle":{"edge_kb":12000}}}"#,
        "\n",
        r#"{"commit":"ab22","date":"2026-11-29","machine":{"cores":2},"results":{"idle":{"edge_kb":9000,"name":"x"}}}"#,
        "\n"
    );

    #[test]
    fn a_landing_is_found_by_its_commit_or_its_place() {
        let landings = landings(HISTORY, Path::new("h")).unwrap();
        for name in ["ab", "ab22", "last", "last-0"] {
            assert_eq!(find(&landings, name).unwrap().commit, "ab22", "{name}");
        }
        assert_eq!(find(&landings, "last-1").unwrap().commit, "aa11");
        for name in ["a", "cc", "last-2", "last-x"] {
            assert!(find(&landings, name).is_err(), "{name}");
        }
        assert_eq!(landings[1].numbers, [("idle.edge_kb".to_owned(), 9000.0)].into());
    }

    #[test]
    fn the_last_result_of_an_output_counts_and_a_bad_line_is_named() {
        let text = "RESULT {\"a\":1}\n  table\nRESULT {\"a\":2}\n";
        assert_eq!(result(text).unwrap(), json!({"a": 2}));
        assert!(result("a table\n").is_err());
        let error = landings("\n{}\n", Path::new("history")).unwrap_err();
        assert_eq!(error.to_string(), "history:2");
    }
}
