//! What EdgeCore holds with 0, 5, 20 and 50 pods, and what it uses while nothing happens.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{memory, wait};

use crate::ground::cpu_ms;
use crate::pods::{Place, is_ready};
use crate::result::{Results, rounded};

#[derive(clap::Args, Clone)]
pub(crate) struct Flags {
    /// Folder with the programs to measure.
    #[arg(long)]
    programs: PathBuf,
    /// Numbers of pods to measure with, ascending.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 5, 20, 50])]
    pods: Vec<usize>,
    /// With so many pods, CPU and writes are measured as well.
    #[arg(long, default_value_t = 20)]
    idle_pods: usize,
    /// Seconds of idling to measure.
    #[arg(long, default_value_t = 120)]
    idle: u64,
    /// Seconds after the last pod is ready before memory is read.
    #[arg(long, default_value_t = 20)]
    rest: u64,
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let place = Place::start(&flags.programs)?;
    let mut results = Results::default();
    let mut idle = None;
    let mut names: Vec<String> = Vec::new();
    for count in &flags.pods {
        println!("  {count} pods");
        let new: Vec<String> = (names.len()..*count).map(|number| format!("pod-{number}")).collect();
        place.runtime.block_on(async {
            for name in &new {
                place.api.create(name, 1).await?;
            }
            for name in &new {
                place.api.wait(name, "ready", is_ready).await?;
            }
            anyhow::Ok(())
        })?;
        names.extend(new);
        wait::pause(Duration::from_secs(flags.rest));
        let pid = place.site.edge.pid()?;
        let what = format!("EdgeCore resident with {count} pods (KiB)");
        results.add(&format!("rss_{count}_kb"), &what, memory::median_kb(pid)?);
        if *count == flags.idle_pods {
            idle = Some(idling(pid, Duration::from_secs(flags.idle))?);
        }
    }
    if let Some(idle) = idle {
        results.add("idle_pods", "pods while idling", flags.idle_pods);
        results.add("idle_cpu_pct", "CPU while idle (% of a core)", rounded(idle.cpu_percent));
        results.add(
            "idle_written_kb_hour",
            "written to disk in an idle hour (KiB)",
            rounded(idle.written_kb_hour),
        );
    }
    results.print();
    Ok(())
}

struct Idle {
    cpu_percent: f64,
    written_kb_hour: f64,
}

fn idling(pid: i32, time: Duration) -> Result<Idle> {
    let (cpu, written) = (cpu_ms(pid)?, written_kb(pid)?);
    let began = wait::now();
    wait::pause(time);
    let seconds = began.elapsed().as_secs_f64();
    Ok(Idle {
        cpu_percent: (cpu_ms(pid)? - cpu) / (seconds * 10.0),
        written_kb_hour: (written_kb(pid)? - written) * 3600.0 / seconds,
    })
}

/// What the process made the kernel write, in KiB.
pub(crate) fn written_kb(pid: i32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).context("reading what was written")?;
    let bytes = text.lines().find_map(|line| line.strip_prefix("write_bytes: ")).context("no write_bytes")?;
    Ok(bytes.trim().parse::<f64>()? / 1024.0)
}
