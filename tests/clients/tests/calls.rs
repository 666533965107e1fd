//! What scripts do with the clients of Python and JavaScript, at the embedded API server.

use anyhow::Result;
use clients::server::Cluster;
use harness::clients::{Installed, cases};

#[test]
fn the_python_client_finds_what_it_finds_at_kubernetes() -> Result<()> {
    let cluster = Cluster::find()?;
    let mut script = Installed::find()?.python("calls.py");
    script.arg("calls-python").env("KUBECONFIG", &cluster.kubeconfig);
    assert_eq!(cases(script)?, 17);
    Ok(())
}

#[test]
fn the_javascript_client_finds_what_it_finds_at_kubernetes() -> Result<()> {
    let cluster = Cluster::find()?;
    let mut script = Installed::find()?.node("calls.mjs")?;
    script.arg("calls-js").env("KUBECONFIG", &cluster.kubeconfig);
    assert_eq!(cases(script)?, 12);
    Ok(())
}
