//! Bytes between one idle node with five pods and its cloud, in both dialects at once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use harness::cloud::Cloud;
use harness::containerd::Containerd;
use harness::edge::Edge;
use harness::images;
use harness::programs::Programs;
use harness::site::IMAGE;
use harness::wait;
use harness::wire::Counter;
use serde_json::json;

use super::print;
use crate::bench::Measured;
use crate::{build, packages};

#[derive(Args)]
pub(super) struct Flags {
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Use this cluster instead of an API server of our own.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
}

const PODS: usize = 5;
/// Pods start and first statuses settle.
const SETTLE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(120);

/// One node and what its link carries. Parts stop in the order of the fields.
struct Side {
    edge: Edge,
    counter: Counter,
    _relay: harness::relay::Relay,
    _containerd: Containerd,
}

pub(super) fn run(flags: &Flags) -> Result<()> {
    packages::ensure()?;
    let programs = build::release()?;
    let scratch = tempfile::Builder::new().prefix("causeway-").tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let root = scratch.path().join("cloud");
    let cloud = Cloud::init_on(flags.kubeconfig.as_deref(), &programs, &root, &[])?;
    let side = |dialect: &str| -> Result<Side> {
        println!("  a node with {PODS} pods, dialect {dialect}");
        runtime.block_on(Side::start(&programs, &cloud, &scratch.path().join(dialect), dialect))
    };
    let (native, kubeedge) = (side("auto")?, side("kubeedge")?);
    for side in [&native, &kubeedge] {
        side.wait_running(&cloud)?;
    }
    wait::pause(SETTLE);
    let counted = || Ok::<_, anyhow::Error>((native.counter.bytes()?, kubeedge.counter.bytes()?));
    let (pids, before) = ((native.edge.pid()?, kubeedge.edge.pid()?), counted()?);
    println!("  counting for {} minutes", flags.minutes);
    wait::pause(Duration::from_secs(flags.minutes * 60));
    let after = counted()?;
    let bytes = (after.0 - before.0, after.1 - before.1);
    // A dead edge and a cut link are cheap.
    ensure!(pids == (native.edge.pid()?, kubeedge.edge.pid()?), "an EdgeCore ended meanwhile");
    ensure!(bytes.0 > 0 && bytes.1 > 0, "a link carried nothing");
    for side in [&native, &kubeedge] {
        side.wait_running(&cloud)?;
        cloud.kubectl().run(&["delete", "pods", "-l", &format!("for={}", side.edge.node)])?;
    }
    let measured = |key, what, value, unit| Measured { key, what, value, unit };
    let per_day = |bytes: u64| bytes as f64 * (24.0 * 60.0 / flags.minutes as f64) / 1e6;
    print(&[
        measured("native_bytes", "native dialect, IP packets counted", bytes.0 as f64, "B"),
        measured("kubeedge_bytes", "KubeEdge's dialect, IP packets counted", bytes.1 as f64, "B"),
        measured("native_mb_day", "native dialect, a day of it", per_day(bytes.0), "MB"),
        measured("kubeedge_mb_day", "KubeEdge's dialect, a day of it", per_day(bytes.1), "MB"),
    ]);
    Ok(())
}

impl Side {
    async fn start(programs: &Programs, cloud: &Cloud, folder: &Path, dialect: &str) -> Result<Side> {
        let containerd = Containerd::start(&folder.join("cri"), true).await?;
        containerd.import(&images::busybox(IMAGE)).await?;
        let relay = harness::relay::Relay::start(cloud.edge_address())?;
        let counter = Counter::start(relay.address())?;
        let endpoint = containerd.socket();
        let socket = Path::new(endpoint.trim_start_matches("unix://"));
        let (node, setting) = (format!("idle-{dialect}"), format!("modules.edgeHub.dialect={dialect}"));
        let root = folder.join("edge");
        let edge =
            Edge::join_with(programs, cloud, &node, &root, relay.address(), Some(socket), &[&setting])?;
        for number in 0..PODS {
            cloud.kubectl().apply(&pod(&node, number))?;
        }
        Ok(Side { edge, counter, _relay: relay, _containerd: containerd })
    }

    /// Waits until the node is ready and its pods run.
    fn wait_running(&self, cloud: &Cloud) -> Result<()> {
        let node = &self.edge.node;
        wait::for_true(&format!("five pods run on {node}"), PATIENCE, || {
            let ready = ".status.conditions[?(@.type==\"Ready\")].status";
            let pods =
                ["get", "pods", "-l", &format!("for={node}"), "-o", "jsonpath={.items[*].status.phase}"];
            let phases = cloud.kubectl().run(&pods).context("asking for the pods")?;
            let running = phases.split_whitespace().filter(|phase| *phase == "Running").count();
            Ok(running == PODS && cloud.kubectl().field("node", node, ready)? == "True")
        })
    }
}

fn pod(node: &str, number: usize) -> String {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("{node}-{number}"), "namespace": "default", "labels": {"for": node}},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [{
            "name": "idle", "image": IMAGE, "command": ["/bin/busybox", "sleep", "86400"]}]}})
    .to_string()
}
