//! One file per command.

pub(crate) mod ca;
pub(crate) mod gettoken;
pub(crate) mod init;
pub(crate) mod join;
pub(crate) mod manifest;
pub(crate) mod node;
pub(crate) mod reset;
mod secrets;
pub(crate) mod version;

use std::io::{BufRead, IsTerminal};
use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;

use crate::render;

/// Writes a configuration file, 0600: it may hold a token.
fn write_config<T: Serialize>(path: &Path, config: &T) -> anyhow::Result<()> {
    let text = daemon::config::to_yaml(config).map_err(anyhow::Error::msg)?;
    pki::files::write_atomic(path, text.as_bytes(), 0o600)
        .with_context(|| format!("writing {}", path.display()))
}

/// Asks whether to go on with `what`; where nobody can answer, it is an error that names the flag for scripts.
fn confirm(what: &str) -> anyhow::Result<()> {
    if !std::io::stdin().is_terminal() {
        bail!("{what}; give --force to do so without being asked");
    }
    render::done(&format!("{what}; continue? [y/N]"));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("reading the answer")?;
    if !answer.trim().eq_ignore_ascii_case("y") {
        bail!("nothing was changed");
    }
    Ok(())
}

/// Reads a time such as 30m, 2h or 7d; gives seconds.
fn duration(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is not a time such as 90s, 30m, 2h or 7d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    Ok(i64::from(number) * seconds)
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn times_have_a_number_and_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604_800), ("0s", 0)] {
            assert_eq!(duration(text), Ok(seconds));
        }
        for wrong in ["", "2", "h", "-1h", "2w", "2hours", "é"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
