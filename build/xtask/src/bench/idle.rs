//! Memory of both programs, idle with the demo's pod and device.

use std::time::Duration;

use anyhow::{Context, Result};
use harness::site::Site;
use harness::{memory, wait};

use super::{Measured, print};
use crate::{build, packages};

/// Time for start-up memory to settle.
const SETTLE: Duration = Duration::from_secs(20);
/// Samples, a second apart; the median counts.
const SAMPLES: usize = 5;

pub(super) fn run() -> Result<()> {
    packages::ensure()?;
    let programs = build::release()?;
    let mut site = Site::start(&programs, true, |text| println!("  {text}"))?;
    println!("  applying the demo's pod and device");
    site.node_ready()?;
    site.apply_greeter()?;
    site.pod_running()?;
    site.start_thermometer()?;
    site.apply_thermometer()?;
    site.wait_reported("temperature", |value| !value.is_empty())?;
    println!("  letting it settle for {SETTLE:?}");
    wait::pause(SETTLE);
    let edgecore = median(site.edge.pid()?)?;
    let cloudcore = median(site.cloud.pid()?)?;
    print(&[
        Measured { key: "edgecore_rss_kb", what: "EdgeCore resident", value: edgecore as f64, unit: "KiB" },
        Measured {
            key: "cloudcore_rss_kb",
            what: "CloudCore resident (with the API server)",
            value: cloudcore as f64,
            unit: "KiB",
        },
        Measured {
            key: "edgecore_binary_kb",
            what: "edgecore binary",
            value: programs.size_kb("edgecore")? as f64,
            unit: "KiB",
        },
        Measured {
            key: "cloudcore_binary_kb",
            what: "cloudcore binary",
            value: programs.size_kb("cloudcore")? as f64,
            unit: "KiB",
        },
    ]);
    Ok(())
}

fn median(pid: i32) -> Result<u64> {
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        samples.push(memory::resident_kb(pid)?);
        wait::pause(Duration::from_secs(1));
    }
    samples.sort_unstable();
    samples.get(SAMPLES / 2).copied().context("no sample")
}
