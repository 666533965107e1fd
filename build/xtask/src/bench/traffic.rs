//! Bytes between one idle node with five pods and its cloud, in both dialects at once.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use harness::site::{NODE, Site};
use harness::wait;
use serde_json::json;

use super::print;
use crate::bench::Measured;
use crate::{build, packages};

#[derive(Args)]
pub struct Flags {
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
}

const PODS: usize = 5;
/// Pods start and first statuses settle.
const SETTLE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(120);

pub fn run(flags: &Flags) -> Result<()> {
    packages::ensure()?;
    let programs = build::release()?;
    let site = |dialect: &str| -> Result<Site> {
        let setting = format!("modules.edgeHub.dialect={dialect}");
        let site = Site::start_with(&programs, true, &[&setting], |text| println!("  {dialect}: {text}"))?;
        site.node_ready()?;
        (0..PODS).try_for_each(|number| site.kubectl().apply(&pod(number)).map(|_| ()))?;
        wait::for_true("five pods run", PATIENCE, || {
            let phases = site.kubectl().run(&["get", "pods", "-o", "jsonpath={.items[*].status.phase}"])?;
            Ok(phases.split_whitespace().filter(|phase| *phase == "Running").count() == PODS)
        })?;
        Ok(site)
    };
    let (native, kubeedge) = (site("auto")?, site("kubeedge")?);
    wait::pause(SETTLE);
    let pids = (native.edge.pid()?, kubeedge.edge.pid()?);
    let before = (native.relay.bytes(), kubeedge.relay.bytes());
    println!("  counting for {} minutes", flags.minutes);
    wait::pause(Duration::from_secs(flags.minutes * 60));
    let bytes = (native.relay.bytes() - before.0, kubeedge.relay.bytes() - before.1);
    // A dead edge and a cut link are cheap.
    ensure!(pids == (native.edge.pid()?, kubeedge.edge.pid()?), "an EdgeCore ended meanwhile");
    ensure!(bytes.0 > 0 && bytes.1 > 0, "a link carried nothing");
    native.node_ready()?;
    kubeedge.node_ready()?;
    let measured = |key, what, value, unit| Measured { key, what, value, unit };
    let per_day = |bytes: u64| bytes as f64 * (24.0 * 60.0 / flags.minutes as f64) / 1e6;
    print(&[
        measured("native_bytes", "native dialect, counted", bytes.0 as f64, "B"),
        measured("kubeedge_bytes", "KubeEdge's dialect, counted", bytes.1 as f64, "B"),
        measured("native_mb_day", "native dialect, a day of it", per_day(bytes.0), "MB"),
        measured("kubeedge_mb_day", "KubeEdge's dialect, a day of it", per_day(bytes.1), "MB"),
    ]);
    Ok(())
}

fn pod(number: usize) -> String {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("idle-{number}"), "namespace": "default"},
        "spec": {"nodeName": NODE, "terminationGracePeriodSeconds": 1, "containers": [{
            "name": "idle", "image": harness::site::IMAGE, "command": ["/bin/busybox", "sleep", "86400"]}]}})
    .to_string()
}
