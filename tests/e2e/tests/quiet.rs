//! A node that has nothing to say keeps its session, over every transport and in both dialects.

use std::time::Duration;

use anyhow::Result;
use harness::cloud::Cloud;
use harness::edge::Edge;
use harness::programs::Programs;
use harness::wait;
use harness::wait::PATIENCE;

/// Much more than either end waits for a sign of life here.
const QUIET: Duration = Duration::from_secs(8);

const LINKS: [(&str, &[&str]); 3] = [
    ("websocket", &[]),
    ("kubeedge", &["modules.edgeHub.dialect=kubeedge"]),
    ("quic", &["modules.edgeHub.quic.enable=true", "modules.edgeHub.websocket.enable=false"]),
];

#[test]
fn a_quiet_session_stays() -> Result<()> {
    let programs = Programs::find()?;
    let scratch = tempfile::tempdir()?;
    let settings = ["modules.cloudHub.keepaliveInterval=2"];
    let cloud = Cloud::init_with(&programs, &scratch.path().join("cloud"), &settings)?;
    let mut edges = Vec::new();
    for (node, link) in LINKS {
        let root = scratch.path().join(node);
        // Without a runtime there is no lease, and nothing is sent but signs of life.
        let settings = [link, &["modules.edgeHub.heartbeat=1"]].concat();
        edges.push(Edge::join_with(&programs, &cloud, node, &root, cloud.edge_address(), None, &settings)?);
    }
    let log = || Ok::<_, anyhow::Error>(std::fs::read_to_string(cloud.log())?);
    for (node, _) in LINKS {
        wait::for_true(&format!("node {node} connected"), PATIENCE, || {
            Ok(log()?.contains(&format!("node connected node={node} ")))
        })?;
    }
    wait::pause(QUIET);
    let ended: Vec<String> =
        log()?.lines().filter(|line| line.contains("node disconnected")).map(str::to_owned).collect();
    assert_eq!(ended, Vec::<String>::new());
    Ok(())
}
