//! Nodes that were put out stay out: at every port of every replica, whatever becomes of the CA. The others notice nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::peer;
use harness::edge::{Doors, Edge};
use harness::kubectl::Kubectl;
use harness::programs::Programs;
use harness::replica::{ApiServer, Replica};
use harness::wait::PATIENCE;
use harness::{ports, wait};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const CERTIFICATE: &str = "etc/kubeedge/certs/server.crt";
const KEY: &str = "etc/kubeedge/certs/server.key";
const CA: &str = "etc/kubeedge/ca/rootCA.crt";

/// Parts stop in the order of the fields.
struct Lab {
    evil: Edge,
    good: Edge,
    replicas: Vec<(Replica, u16)>,
    runtime: Runtime,
    kubectl: Kubectl,
    programs: Programs,
    api: ApiServer,
    scratch: TempDir,
}

/// What a certificate opens at one replica; the text is what it was told.
type Opened = Vec<(&'static str, Result<(), String>)>;

impl Lab {
    /// Two replicas with QUIC; `evil` is connected to the first and `good` to the second.
    fn start() -> Result<Lab> {
        let programs = Programs::find()?;
        let scratch = tempfile::tempdir()?;
        let folder = |name: &str| scratch.path().join(name);
        let api = ApiServer::start(&programs, &folder("api"))?;
        let mut replicas = Vec::new();
        for name in ["a", "b"] {
            let quic = ports::free()?;
            let port = format!("modules.cloudHub.quic.port={quic}");
            let settings = [
                "modules.cloudHub.quic.enable=true",
                &port,
                "modules.cloudHub.quic.address=127.0.0.1",
                "modules.cloudHub.certificateCheckSeconds=1",
            ];
            let replica = Replica::prepare_with(&programs, &folder(name), &api.kubeconfig, &settings)?;
            replica.program.start()?;
            replica.wait_ready()?;
            replicas.push((replica, quic));
        }
        let kubectl = Kubectl::new(&api.kubeconfig);
        let kubeconfig = api.kubeconfig.to_string_lossy().into_owned();
        let token = programs.keadm(&["gettoken", "--kube-config", &kubeconfig])?.trim().to_owned();
        let join = |node: &str, at: usize| {
            let replica: &Replica = &replicas[at].0;
            let cert_port = replica.certificates.port();
            let doors = Doors { link: replica.edge, cert_port, quic_port: 0, token: token.clone() };
            let often = ["modules.edgeHub.caRefreshSeconds=1"];
            Edge::join_at(&programs, &doors, node, &folder(node), None, &often)
        };
        let (evil, good) = (join("evil", 0)?, join("good", 1)?);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let lab = Lab { evil, good, replicas, runtime, kubectl, programs, api, scratch };
        for node in ["evil", "good"] {
            wait::for_true("the node is connected", PATIENCE, || Ok(lab.connections(node)? == 1))?;
            let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node,
                "labels": {"node-role.kubernetes.io/edge": ""}}});
            lab.kubectl.apply(&object.to_string())?;
        }
        Ok(lab)
    }

    fn keadm(&self, arguments: &[&str]) -> Result<String> {
        let kubeconfig = self.api.kubeconfig.to_string_lossy();
        self.programs.keadm(&[arguments, &["--kube-config", &kubeconfig]].concat())
    }

    /// How often `node` has connected to any replica.
    fn connections(&self, node: &str) -> Result<usize> {
        let mut count = 0;
        for (replica, _) in &self.replicas {
            count += replica.program.log()?.matches(&format!("node connected node={node} ")).count();
        }
        Ok(count)
    }

    /// Tries the certificate in `root` as `node` at the three ports of both replicas.
    fn opened(&self, root: &Path, node: &str) -> Result<Opened> {
        let tls = peer::tls(root, true)?;
        let mut opened = Opened::new();
        for (replica, quic) in &self.replicas {
            let socket = self.runtime.block_on(peer::connect(tls.clone(), replica.edge.port(), node));
            let socket = match socket {
                Ok(Ok(_)) => Ok(()),
                Ok(Err((code, body))) => Err(format!("{code} {body}")),
                Err(error) => Err(format!("{error:#}")),
            };
            opened.push(("websocket", socket));
            opened.push(("quic", self.runtime.block_on(dial_quic(tls.clone(), *quic, node))));
            let (_, request) = pki::node_request(node)?;
            let renewed = self.runtime.block_on(peer::get(
                tls.clone(),
                replica.certificates.port(),
                "/edge.crt",
                &[("NodeName", node)],
                request,
            ));
            let renewed = match renewed {
                Ok((200, _)) => Ok(()),
                Ok((code, body)) => Err(format!("{code} {}", String::from_utf8_lossy(&body))),
                Err(error) => Err(format!("{error:#}")),
            };
            opened.push(("registration", renewed));
        }
        Ok(opened)
    }

    /// Waits until `root`'s certificate opens nothing, and says how long it took.
    fn wait_shut(&self, root: &Path, node: &str, what: &str) -> Result<Opened> {
        let since = wait::now();
        let told = wait::until("every port refuses", PATIENCE, || {
            let opened = self.opened(root, node)?;
            Ok(opened.iter().all(|(_, opened)| opened.is_err()).then_some(opened))
        })?;
        eprintln!("{what}: every port of both replicas refused after {:.2} s", since.elapsed().as_secs_f64());
        Ok(told)
    }

    /// Joins another machine as `node` with `token`; its folder.
    fn register(&self, folder: &str, node: &str, token: &str) -> Result<Result<PathBuf, (u16, String)>> {
        let (key, request) = pki::node_request(node)?;
        let bearer = format!("Bearer {}", token.split_once('.').context("a token")?.1);
        let headers = [("NodeName", node), ("Authorization", bearer.as_str())];
        let port = self.replicas[0].0.certificates.port();
        let answer = peer::get(peer::tls(&self.good.root, false)?, port, "/edge.crt", &headers, request);
        let (status, body) = self.runtime.block_on(answer)?;
        if status != 200 {
            return Ok(Err((status, String::from_utf8_lossy(&body).into_owned())));
        }
        let root = self.scratch.path().join(folder);
        for file in [CERTIFICATE, CA] {
            std::fs::create_dir_all(root.join(file).parent().context("a folder")?)?;
        }
        std::fs::copy(self.good.root.join(CA), root.join(CA))?;
        let identity = pki::Identity::from_der(&body, &key)?;
        pki::files::write_identity(&root.join(CERTIFICATE), &root.join(KEY), &identity)?;
        Ok(Ok(root))
    }

    fn token(&self, flags: &[&str]) -> Result<String> {
        Ok(self.keadm(&[&["gettoken"], flags].concat())?.trim().to_owned())
    }
}

async fn dial_quic(tls: std::sync::Arc<rustls::ClientConfig>, port: u16, node: &str) -> Result<(), String> {
    let (heartbeat, idle) = (Duration::from_secs(5), Duration::from_secs(15));
    let dialer = link::quic::Dialer::bind(tls, heartbeat, idle).map_err(|error| error.to_string())?;
    let target = link::Target {
        address: format!("127.0.0.1:{port}"),
        project_id: "project".to_owned(),
        node: node.to_owned(),
        timeout: Duration::from_secs(10),
        offer: link::Offer::Auto,
        way: link::Way::Straight,
    };
    // With the reasons below: whom the peer does not trust is one.
    dialer.dial(&target).await.map(|_| ()).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

fn all_open(opened: &Opened) -> Result<()> {
    match opened.iter().find_map(|(port, opened)| opened.as_ref().err().map(|why| (port, why))) {
        Some((port, why)) => bail!("{port} refused: {why}"),
        None => Ok(()),
    }
}

#[test]
fn a_removed_node_stays_out_of_every_port_and_replica_through_a_change_of_the_ca() -> Result<()> {
    let lab = Lab::start()?;
    all_open(&lab.opened(&lab.evil.root, "evil")?)?;
    lab.keadm(&["node", "remove", "evil"])?;
    for (port, told) in lab.wait_shut(&lab.evil.root, "evil", "removed")? {
        let told = told.err().context("refused")?;
        ensure!(told.contains("removed by the operator"), "{port}: {told}");
    }
    wait::for_true("EdgeCore says why", PATIENCE, || {
        Ok(std::fs::read_to_string(lab.evil.log())?.contains("removed by the operator"))
    })?;

    let ca = || -> Result<String> {
        Ok(lab.keadm(&["ca", "show"])?.lines().next().unwrap_or_default().to_owned())
    };
    let before = ca()?;
    // Time for a node on a busy machine to hear of the new CA: afterwards it could not know CloudCore any more.
    lab.keadm(&["ca", "rotate", "--overlap", "10s"])?;
    wait::for_true("the new CA signs", PATIENCE, || {
        let now = ca()?;
        Ok(now != before && now.ends_with("signs"))
    })?;
    lab.wait_shut(&lab.evil.root, "evil", "in the overlap of two CAs")?;
    // `good` renews by itself; until then it is named.
    let named = lab.keadm(&["ca", "retire"]).err().map(|error| format!("{error:#}"));
    ensure!(named.is_none_or(|text| text.contains("good") && !text.contains("evil")), "who has not renewed");
    wait::for_true("every node has renewed", PATIENCE, || Ok(lab.keadm(&["ca", "retire"]).is_ok()))?;
    lab.wait_shut(&lab.evil.root, "evil", "after the old CA was retired")?;
    all_open(&lab.opened(&lab.good.root, "good")?).err().map_or(Ok(()), |error| {
        // The peer trusts the CA of its folder only; EdgeCore has both.
        ensure!(format!("{error:#}").contains("UnknownIssuer"), "{error:#}");
        Ok(())
    })
}

#[test]
fn a_deleted_node_is_out_until_its_machine_joins_again_and_a_blocked_one_until_it_is_allowed() -> Result<()> {
    let lab = Lab::start()?;
    lab.kubectl.run(&["delete", "node", "evil"])?;
    lab.wait_shut(&lab.evil.root, "evil", "deleted")?;
    let again = lab.register("again", "evil", &lab.token(&[])?)?;
    let again = again.ok().context("a machine that joins with a token was refused")?;
    all_open(&lab.opened(&again, "evil")?)?;
    ensure!(
        lab.opened(&lab.evil.root, "evil")?.iter().all(|(_, opened)| opened.is_err()),
        "the old came back"
    );

    lab.keadm(&["node", "block", "evil", "--reason", "stolen from site 7"])?;
    for (port, told) in lab.wait_shut(&again, "evil", "blocked")? {
        ensure!(told.err().context("refused")?.contains("stolen from site 7"), "{port}");
    }
    let (status, text) =
        lab.register("third", "evil", &lab.token(&["--existing-nodes"])?)?.err().context("blocked")?;
    ensure!(status == 403 && text.contains("stolen from site 7"), "{status} {text}");
    let listed = lab.keadm(&["node", "list"])?;
    ensure!(listed.starts_with("evil\tall\t") && listed.contains("stolen from site 7"), "{listed}");
    lab.keadm(&["node", "allow", "evil"])?;
    wait::for_true("it is let in again", PATIENCE, || Ok(all_open(&lab.opened(&again, "evil")?).is_ok()))?;

    let serial = pki::Subject::of(&std::fs::read(again.join(CERTIFICATE)).map(|pem| der_of(&pem))??)?.serial;
    lab.keadm(&["node", "block", "--serial", &serial])?;
    lab.wait_shut(&again, "evil", "one certificate blocked")?;
    ensure!(lab.connections("good")? == 1, "the good node was cut off");
    Ok(())
}

fn der_of(pem: &[u8]) -> Result<Vec<u8>> {
    use rustls::pki_types::pem::PemObject;
    Ok(rustls::pki_types::CertificateDer::from_pem_slice(pem)?.to_vec())
}

#[test]
fn a_join_token_is_for_new_nodes_unless_its_maker_says_otherwise() -> Result<()> {
    let lab = Lab::start()?;
    let (status, text) =
        lab.register("thief", "good", &lab.token(&[])?)?.err().context("an existing node's name")?;
    ensure!(status == 409 && text.contains("--existing-nodes"), "{status} {text}");
    // Nobody is connected by that name any more.
    lab.good.kill9()?;
    let token = lab.token(&["--existing-nodes"])?;
    wait::for_true("its place is free", PATIENCE, || Ok(lab.register("spare", "good", &token)?.is_ok()))
}
