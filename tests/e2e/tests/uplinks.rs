//! Ways from a node to its cloud: several, of which one may fail, and through a proxy.

use anyhow::{Result, ensure};
use harness::cloud::Cloud;
use harness::connect_proxy::ConnectProxy;
use harness::edge::{Doors, Edge};
use harness::kubectl::Kubectl;
use harness::programs::Programs;
use harness::relay::Relay;
use harness::wait;
use harness::wait::PATIENCE;
use serde_json::json;

const NODE: &str = "edge-1";

fn config_map(kubectl: &Kubectl, text: &str) -> Result<()> {
    let config_map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"text": text}});
    kubectl.apply(&config_map.to_string()).map(drop)
}

/// A pod that refers to the config map; no runtime is needed to hold its objects.
fn pod(kubectl: &Kubectl) -> Result<()> {
    let volumes = json!([{"name": "c", "configMap": {"name": "c"}}]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"nodeName": NODE, "volumes": volumes, "containers": [{"name": "c", "image": "x"}]}});
    kubectl.apply(&pod.to_string()).map(drop)
}

fn has(edge: &Edge, text: &str) -> Result<bool> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = rusqlite::Connection::open_with_flags(edge.database(), flags)?;
    let stored = database.query_row(
        "SELECT count(*) FROM meta WHERE type = 'configmap' AND value LIKE ?1",
        [format!("%\"text\":\"{text}\"%")],
        |row| row.get::<_, i64>(0),
    )?;
    Ok(stored > 0)
}

#[test]
fn when_the_first_uplink_is_dropped_the_next_one_takes_over_and_nothing_is_lost() -> Result<()> {
    let (programs, scratch) = (Programs::find()?, tempfile::tempdir()?);
    let cloud = Cloud::init(&programs, &scratch.path().join("cloud"))?;
    let [first, second] = [Relay::start(cloud.edge_address())?, Relay::start(cloud.edge_address())?];
    let others = format!("modules.edgeHub.websocket.otherServers=[{:?}]", second.address().to_string());
    let root = scratch.path().join("edge");
    let edge = Edge::join_with(&programs, &cloud, NODE, &root, first.address(), None, &[&others])?;
    let kubectl = cloud.kubectl();
    config_map(&kubectl, "before")?;
    pod(&kubectl)?;
    wait::for_true("the edge has the config map", PATIENCE, || has(&edge, "before"))?;
    for (round, down, up) in [(0, &first, &second), (1, &second, &first), (2, &first, &second)] {
        up.heal();
        down.cut();
        let text = format!("round {round}");
        config_map(&kubectl, &text)?;
        wait::for_true("the other way brings what is new", PATIENCE, || has(&edge, &text))?;
    }
    Ok(())
}

#[test]
fn a_node_joins_and_stays_in_step_through_a_proxy() -> Result<()> {
    let (programs, scratch) = (Programs::find()?, tempfile::tempdir()?);
    let cloud = Cloud::init(&programs, &scratch.path().join("cloud"))?;
    let proxy = ConnectProxy::start()?;
    let setting = format!("modules.edgeHub.proxy=http://{}", proxy.address());
    let root = scratch.path().join("edge");
    let edge = Edge::join_with(&programs, &cloud, NODE, &root, cloud.edge_address(), None, &[&setting])?;
    let kubectl = cloud.kubectl();
    config_map(&kubectl, "through")?;
    pod(&kubectl)?;
    wait::for_true("the edge has the config map", PATIENCE, || has(&edge, "through"))?;
    let asked = proxy.asked();
    let link = cloud.edge_address().to_string();
    ensure!(asked.contains(&link), "{asked:?}");
    ensure!(asked.iter().any(|asked| *asked != link), "registration goes through it as well: {asked:?}");
    Ok(())
}

#[test]
fn one_port_is_enough_to_join_and_to_stay_in_step() -> Result<()> {
    let (programs, scratch) = (Programs::find()?, tempfile::tempdir()?);
    let port = harness::ports::free()?;
    let setting = format!("modules.cloudHub.commonPort={port}");
    let cloud = Cloud::init_with(&programs, &scratch.path().join("cloud"), &[&setting])?;
    let link = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let doors = Doors { link, cert_port: port, quic_port: 0, token: cloud.token()? };
    let edge = Edge::join_at(&programs, &doors, NODE, &scratch.path().join("edge"), None, &[])?;
    let kubectl = cloud.kubectl();
    config_map(&kubectl, "one port")?;
    pod(&kubectl)?;
    wait::for_true("the edge has the config map", PATIENCE, || has(&edge, "one port"))
}
