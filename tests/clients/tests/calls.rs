//! What scripts do with the clients of Python and JavaScript, at the embedded API server and at a node.

use std::path::Path;

use anyhow::{Result, ensure};
use clients::informers::Ground as _;
use clients::node::Node;
use clients::server::Cluster;
use harness::clients::{Installed, cases};
use harness::programs::Programs;

fn python(kubeconfig: &Path) -> Result<()> {
    let mut script = Installed::find()?.python("calls.py");
    script.arg("calls-python").env("KUBECONFIG", kubeconfig);
    ensure!(cases(script)? == 17, "not all cases ran");
    Ok(())
}

fn javascript(kubeconfig: &Path) -> Result<()> {
    let mut script = Installed::find()?.node("calls.mjs")?;
    script.arg("calls-js").env("KUBECONFIG", kubeconfig);
    ensure!(cases(script)? == 12, "not all cases ran");
    Ok(())
}

/// `CAUSEWAY_KUBECONFIG=FILE cargo nextest run -p clients kubernetes` asks a cluster that is there.
#[test]
fn the_python_client_finds_what_it_finds_at_kubernetes() -> Result<()> {
    python(&Cluster::find()?.kubeconfig)
}

#[test]
fn the_javascript_client_finds_what_it_finds_at_kubernetes() -> Result<()> {
    javascript(&Cluster::find()?.kubeconfig)
}

#[test]
fn both_clients_find_the_same_at_a_node() -> Result<()> {
    let node = Node::start(&Programs::find()?)?;
    python(node.clients())?;
    javascript(node.clients())
}
