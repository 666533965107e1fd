//! Memory of a process.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::wait;

const SAMPLES: usize = 5;

/// Resident memory in KiB.
pub fn resident_kb(pid: i32) -> Result<u64> {
    field_kb(pid, "VmRSS:")
}

/// The most memory that was ever resident, in KiB.
pub fn peak_kb(pid: i32) -> Result<u64> {
    field_kb(pid, "VmHWM:")
}

fn field_kb(pid: i32, field: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let value = line.with_context(|| format!("no {field} in {path}"))?;
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}

/// The median of a few looks, in KiB; takes some seconds.
pub fn median_kb(pid: i32) -> Result<u64> {
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        samples.push(resident_kb(pid)?);
        wait::pause(Duration::from_millis(500));
    }
    samples.sort_unstable();
    samples.get(SAMPLES / 2).copied().context("no sample")
}
