//! The API server is away while its edges go on.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::go_edge::message;
use e2e::peer;
use harness::edge::{Doors, Edge};
use harness::kubectl::Kubectl;
use harness::programs::Programs;
use harness::relay::Relay;
use harness::replica::{ApiServer, Replica};
use harness::wait;
use harness::wait::PATIENCE;
use serde_json::json;
use tempfile::TempDir;

const NODE: &str = "edge-1";
/// Seconds without a sign of life after which CloudCore ends a session here.
const KEEPALIVE: u64 = 3;

/// A CloudCore, not started yet, whose way to the API server can be cut.
struct Cloud {
    relay: Relay,
    replica: Replica,
    api: ApiServer,
    scratch: TempDir,
}

impl Cloud {
    fn prepare(programs: &Programs) -> Result<Cloud> {
        let scratch = tempfile::tempdir()?;
        let api = ApiServer::start(programs, &scratch.path().join("api"))?;
        let text = std::fs::read_to_string(&api.kubeconfig)?;
        let address = server_of(&text).context("the kubeconfig names no server")?;
        let relay = Relay::start(address.parse()?)?;
        let relayed = scratch.path().join("relayed.kubeconfig");
        std::fs::write(&relayed, text.replace(address, &relay.address().to_string()))?;
        let keepalive = format!("modules.cloudHub.keepaliveInterval={KEEPALIVE}");
        let replica =
            Replica::prepare_with(programs, &scratch.path().join("cloud"), &relayed, &[&keepalive])?;
        Ok(Cloud { relay, replica, api, scratch })
    }
}

/// A CloudCore that runs, and the certificate of a node.
struct Lab {
    relay: Relay,
    replica: Replica,
    kubectl: Kubectl,
    edge: Edge,
    _api: ApiServer,
    _scratch: TempDir,
}

impl Lab {
    fn start() -> Result<Lab> {
        let programs = Programs::find()?;
        let Cloud { relay, replica, api, scratch } = Cloud::prepare(&programs)?;
        replica.program.start()?;
        replica.wait_ready()?;
        let token = programs.keadm(&["gettoken", "--kube-config", &api.kubeconfig.to_string_lossy()])?;
        let doors = Doors {
            link: replica.edge,
            cert_port: replica.certificates.port(),
            quic_port: 0,
            token: token.trim().to_owned(),
        };
        let edge = Edge::join_at(&programs, &doors, NODE, &scratch.path().join(NODE), None, &[])?;
        let kubectl = Kubectl::new(&api.kubeconfig);
        Ok(Lab { relay, replica, kubectl, edge, _api: api, _scratch: scratch })
    }
}

fn server_of(kubeconfig: &str) -> Option<&str> {
    let server = kubeconfig.lines().find_map(|line| line.trim().strip_prefix("server:"))?;
    server.trim().trim_matches(['"', '\'']).strip_prefix("https://")
}

fn tls(root: &Path) -> Result<std::sync::Arc<rustls::ClientConfig>> {
    let certificate = root.join("etc/kubeedge/certs/server.crt");
    wait::for_true("the certificate", PATIENCE, || Ok(certificate.exists()))?;
    peer::tls(root, true)
}

#[test]
fn a_cloudcore_that_starts_before_its_api_server_waits_for_it_and_is_not_ready_meanwhile() -> Result<()> {
    let cloud = Cloud::prepare(&Programs::find()?)?;
    cloud.relay.cut();
    cloud.replica.program.start()?;
    let log = || cloud.replica.program.log();
    wait::for_true("CloudCore misses its API server", PATIENCE, || {
        Ok(log()?.contains("the API server does not serve yet"))
    })?;
    ensure!(!cloud.replica.is_ready(), "ready without an API server");
    ensure!(!log()?.contains("ready\n"), "{}", log()?);
    cloud.relay.heal();
    cloud.replica.wait_ready()
}

/// More than CloudCore holds of one node's messages.
#[test]
fn a_backlog_during_an_outage_cuts_no_edge_off_and_is_written_afterwards() -> Result<()> {
    const EVENTS: usize = 80;
    let lab = Lab::start()?;
    let tls = tls(&lab.edge.root)?;
    // EdgeCore was there for its certificate only.
    lab.edge.kill9()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = peer::connect(tls, lab.replica.edge.port(), NODE).await?;
        let mut socket = socket.map_err(|(status, text)| anyhow::anyhow!("{status}: {text}"))?;
        lab.relay.cut();
        for number in 0..EVENTS {
            let name = format!("backlog-{number}");
            let event = json!({"apiVersion": "v1", "kind": "Event",
                "metadata": {"name": name, "namespace": "default"},
                "involvedObject": {"kind": "Node", "name": NODE}, "message": "x".repeat(16 * 1024)});
            let told = message(&name, "resource", "insert", &format!("default/event/{name}"), event);
            peer::send(&mut socket, &format!("{told}\n")).await?;
        }
        let heartbeat = json!({"header": {"msg_id": "beat", "timestamp": 1},
            "route": {"source": "websocket", "group": "resource", "operation": "keepalive",
                "resource": "node/connection"}, "content": "ping"});
        for _ in 0..4 * KEEPALIVE {
            peer::send(&mut socket, &format!("{heartbeat}\n")).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        lab.relay.heal();
        let written = || -> Result<usize> {
            let events = lab.kubectl.run(&["get", "events", "-o", "name"])?;
            Ok(events.lines().filter(|line| line.contains("backlog-")).count())
        };
        let began = wait::now();
        while written()? < EVENTS {
            ensure!(began.elapsed() < PATIENCE, "{} of {EVENTS} events are written", written()?);
            peer::send(&mut socket, &format!("{heartbeat}\n")).await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let log = lab.replica.program.log()?;
        ensure!(!log.contains("no sign of life"), "the session was cut:\n{log}");
        Ok(())
    })
}
