//! The conformance cases at a node.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use clients::informers::Ground as _;
use clients::node::Node;
use harness::programs::{self, Programs};
use serde_json::Value;

#[test]
fn the_cases_hold_at_a_node() -> Result<()> {
    let programs = Programs::find()?;
    let node = Node::start(&programs)?;
    let known = harness::clients::source().join("at-node.yaml");
    let mut command = Command::new(programs.path("conformance"));
    command.arg("--kubeconfig").arg(node.clients()).arg("--known").arg(known);
    let output = programs::output(&mut command)?;
    let told = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    let line = told.lines().last().and_then(|line| line.strip_prefix("RESULT "));
    let result: Value = serde_json::from_str(line.with_context(|| format!("no result: {told}{error}"))?)?;
    ensure!(result["failed"] == 0 && result["passed"].as_u64() >= Some(400), "{told}");
    Ok(())
}
