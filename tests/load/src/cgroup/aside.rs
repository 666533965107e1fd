//! Programs that stand for other machines: they run on one core, and only while nobody else wants it.

use std::process::Command;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity};

/// A command to which the program and its arguments are yet to be given.
pub(crate) fn command() -> Result<Command> {
    let ours = sched_getaffinity(None).context("asking for the cores of this process")?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|core| ours.is_set(*core)).context("a core")?;
    let mut command = Command::new("chrt");
    command.args(["--idle", "0", "taskset", "--cpu-list", &last.to_string()]);
    Ok(command)
}
