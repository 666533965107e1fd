//! Two lines of the history side by side.

use std::fmt::Write;

use anyhow::{Context, Result};
use clap::Args;

use super::history::{self, Landing};
use super::number;

/// What `compare` is given.
#[derive(Args)]
pub(super) struct Flags {
    /// A commit of the history, `last`, or `last-N`.
    #[arg(default_value = "last-1")]
    before: String,
    /// The same.
    #[arg(default_value = "last")]
    after: String,
}

pub(super) fn run(flags: &Flags) -> Result<()> {
    let path = history::path();
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let landings = history::landings(&text, &path)?;
    let (before, after) = (history::find(&landings, &flags.before)?, history::find(&landings, &flags.after)?);
    print!("{}", table(before, after));
    Ok(())
}

/// All numbers that either has; a ratio where both do.
fn table(before: &Landing, after: &Landing) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    if before.machine != after.machine {
        let _ =
            writeln!(out, "other machines, so ratios say little: {} and {}", before.machine, after.machine);
    }
    let heads = [before, after].map(|landing| format!("{} {}", landing.commit, landing.date));
    let _ = writeln!(out, "{:<44} {:>24} {:>24} {:>8}", "", heads[0], heads[1], "ratio");
    let mut keys: Vec<&String> = before.numbers.keys().chain(after.numbers.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let values = [before, after].map(|landing| landing.numbers.get(key).copied());
        let shown = values.map(|value| value.map_or("-".to_owned(), |value| number(value).to_string()));
        let ratio = match values {
            [Some(before), Some(after)] if before != 0.0 => format!("{:.2}", after / before),
            _ => String::new(),
        };
        let _ = writeln!(out, "{key:<44} {:>24} {:>24} {ratio:>8}", shown[0], shown[1]);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn landing(cores: u32, results: &str) -> Landing {
        let line = format!(
            r#"{{"commit":"c","date":"d","machine":{{"cores":{cores}}},"results":{{"idle":{results}}}}}"#
        );
        history::landings(&line, Path::new("h")).unwrap().remove(0)
    }

    #[test]
    fn what_both_have_gets_a_ratio_and_what_one_lacks_a_dash() {
        let shown = table(&landing(2, r#"{"kb":200,"old":1}"#), &landing(2, r#"{"kb":100,"new":1.5}"#));
        let lines: Vec<Vec<&str>> =
            shown.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        let expected: [&[&str]; 3] =
            [&["idle.kb", "200", "100", "0.50"], &["idle.new", "-", "1.5"], &["idle.old", "1", "-"]];
        assert_eq!(lines, expected);
    }

    #[test]
    fn other_machines_are_told_of() {
        assert!(table(&landing(2, "{}"), &landing(8, "{}")).starts_with("other machines"));
    }
}
