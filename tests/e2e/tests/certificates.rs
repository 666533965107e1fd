//! Certificates, CAs and tokens change while everything runs.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::{ca, peer};
use harness::cloud::Cloud;
use harness::edge::{Doors, Edge};
use harness::programs::Programs;
use harness::wait;
use harness::wait::PATIENCE;
use pki::{DAY, Identity, NODES_GROUP, Profile, Usage, edge_common_name};
use serde_json::json;
use tempfile::TempDir;

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

/// Parts stop in the order of the fields.
struct Lab {
    cloud: Cloud,
    runtime: tokio::runtime::Runtime,
    programs: Programs,
    scratch: TempDir,
}

impl Lab {
    fn start(settings: &[&str]) -> Result<Lab> {
        let programs = Programs::find()?;
        let scratch = tempfile::tempdir()?;
        let cloud = Cloud::init_with(&programs, &scratch.path().join("cloud"), settings)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Lab { cloud, runtime, programs, scratch })
    }

    fn join(&self, node: &str, token: &str, settings: &[&str]) -> Result<Edge> {
        let Cloud { cert_port, quic_port, .. } = self.cloud;
        let doors = Doors { link: self.cloud.edge_address(), cert_port, quic_port, token: token.to_owned() };
        Edge::join_at(&self.programs, &doors, node, &self.scratch.path().join(node), None, settings)
    }

    /// Joins with the cluster's token and waits for the connection.
    fn joined(&self, node: &str, settings: &[&str]) -> Result<Edge> {
        let edge = self.join(node, &self.cloud.token()?, settings)?;
        self.connected(node, 1)?;
        Ok(edge)
    }

    /// Waits until `node` has connected that often.
    fn connected(&self, node: &str, times: usize) -> Result<()> {
        wait::for_true(&format!("node {node} connected {times} times"), PATIENCE, || {
            let log = std::fs::read_to_string(self.cloud.log())?;
            Ok(log.lines().filter(|line| line.contains(&format!("node connected node={node} "))).count()
                >= times)
        })
    }

    /// Gives a stopped edge a certificate that ends in `seconds`.
    fn plant(&self, edge: &Edge, node: &str, seconds: i64) -> Result<()> {
        let profile = profile(node);
        // Issued so long ago that it ends when it should.
        let issued = daemon::clock::unix_seconds() + seconds - profile.lifetime;
        let identity = ca::authority(&self.cloud)?.issue(&profile, issued)?;
        let (certificate, key) = files(edge);
        Ok(pki::files::write_identity(&certificate, &key, &identity)?)
    }

    /// Asks for a certificate of `node` with a token; (status, text).
    fn register(&self, edge: &Edge, token: &str, node: &str, request: &[u8]) -> Result<(u16, String)> {
        let tls = peer::tls(&edge.root, false)?;
        let bearer = format!("Bearer {}", token.split_once('.').map_or(token, |(_, jwt)| jwt));
        let headers = [("NodeName", node), ("Authorization", bearer.as_str())];
        let answer = peer::get(tls, self.cloud.cert_port, "/edge.crt", &headers, request.to_vec());
        let (status, body) = self.runtime.block_on(answer)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    fn restart_cloud(&self) -> Result<()> {
        self.cloud.kill9()?;
        self.cloud.start()
    }
}

fn profile(node: &str) -> Profile {
    Profile {
        common_name: edge_common_name(node),
        organizations: vec![NODES_GROUP.to_owned()],
        names: Vec::new(),
        usage: Usage::Client,
        lifetime: 30 * DAY,
    }
}

fn log(edge: &Edge) -> Result<String> {
    Ok(std::fs::read_to_string(edge.log())?)
}

/// Certificate and key of an edge.
fn files(edge: &Edge) -> (PathBuf, PathBuf) {
    let folder = edge.root.join("etc/kubeedge/certs");
    (folder.join("server.crt"), folder.join("server.key"))
}

fn identity(edge: &Edge) -> Result<Identity> {
    let (certificate, key) = files(edge);
    Ok(pki::files::read_identity(&certificate, &key)?)
}

fn bundle(edge: &Edge) -> Result<pki::Bundle> {
    Ok(pki::files::read_bundle(&edge.root.join("etc/kubeedge/ca/rootCA.crt"))?)
}

/// Waits until the edge's certificate is another than `old`.
fn renewed(edge: &Edge, old: &Identity) -> Result<Identity> {
    wait::until("another certificate", PATIENCE, || {
        let now = identity(edge)?;
        Ok((now.certificate() != old.certificate()).then_some(now))
    })
}

#[test]
fn a_certificate_near_its_end_is_renewed_with_a_new_key_while_the_link_stays_up() -> Result<()> {
    let lab = Lab::start(&[])?;
    let edge = lab.joined("edge-1", &[])?;
    edge.kill9()?;
    lab.plant(&edge, "edge-1", 5)?;
    let planted = identity(&edge)?;
    edge.start()?;
    let new = renewed(&edge, &planted)?;
    assert_ne!(new.private_key().secret_der(), planted.private_key().secret_der(), "the key is new");
    let mode = std::fs::metadata(files(&edge).1)?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    lab.connected("edge-1", 2)?;

    // The old one ends; nothing happens to the session that began with it or with the new one.
    wait::pause(Duration::from_secs(6));
    assert!(!log(&edge)?.contains("disconnected from the cloud"), "{}", log(&edge)?);
    lab.restart_cloud()?;
    lab.connected("edge-1", 3)?;
    Ok(())
}

#[test]
fn an_expired_certificate_is_exchanged_only_as_long_as_the_operator_allows() -> Result<()> {
    let lab = Lab::start(&["modules.cloudHub.renewExpiredFor=1"])?;
    let edge = lab.joined("edge-1", &[])?;
    edge.kill9()?;
    lab.plant(&edge, "edge-1", -10 * MINUTE)?;
    let planted = identity(&edge)?;
    edge.start()?;
    renewed(&edge, &planted)?;
    lab.connected("edge-1", 2)?;

    edge.kill9()?;
    lab.plant(&edge, "edge-1", -2 * HOUR)?;
    edge.start()?;
    wait::for_true("EdgeCore ends", PATIENCE, || Ok(edge.pid().is_err()))?;
    let log = log(&edge)?;
    assert!(log.contains("renewExpiredFor") && log.contains("keadm gettoken"), "{log}");
    assert!(log.contains("bootstrap-edgecore.conf"), "says where the token goes: {log}");

    // As told.
    std::fs::write(edge.root.join("etc/kubeedge/bootstrap-edgecore.conf"), lab.cloud.token()?)?;
    edge.start()?;
    lab.connected("edge-1", 3)?;
    Ok(())
}

#[test]
fn the_ca_is_replaced_without_any_node_joining_again() -> Result<()> {
    let lab = Lab::start(&["modules.cloudHub.certificateCheckSeconds=1"])?;
    let often = ["modules.edgeHub.caRefreshSeconds=1"];
    let (present, away) = (lab.joined("present", &often)?, lab.joined("away", &often)?);
    let (old_ca, before) = (bundle(&present)?, identity(&present)?);
    let holdout = ca::authority(&lab.cloud)?.issue(&profile("holdout"), daemon::clock::unix_seconds())?;
    // One edge sees nothing of the overlap.
    away.kill9()?;

    lab.cloud.keadm(&["ca", "rotate", "--overlap", "3s"])?;
    let again = lab.cloud.keadm(&["ca", "rotate"]).err().context("two rotations at once")?;
    assert!(format!("{again:#}").contains("begun already"), "{again:#}");
    wait::for_true("the edge trusts both CAs", PATIENCE, || Ok(bundle(&present)?.certificates().len() == 2))?;
    let old = &old_ca.certificates()[0];
    wait::for_true("the new CA signs", PATIENCE, || Ok(ca::authority(&lab.cloud)?.certificate() != old))?;
    let shown = lab.cloud.keadm(&["ca", "show"])?;
    assert!(shown.lines().count() == 2 && shown.lines().next().is_some_and(|line| line.ends_with("signs")));

    // The edge that was there renews by itself; the one that was away trusts only the old CA and is led to the new.
    renewed(&present, &before)?;
    let new_ca = ca::authority(&lab.cloud)?;
    let by_new = |edge: &Edge| -> Result<bool> {
        let trust = pki::Bundle::of(new_ca.certificate());
        Ok(trust.signer_signed(identity(edge)?.certificate()))
    };
    wait::for_true("its certificate is of the new CA", PATIENCE, || by_new(&present))?;
    assert_eq!(bundle(&away)?, old_ca);
    away.start()?;
    lab.connected("away", 2)?;
    wait::for_true("the other's too", PATIENCE, || by_new(&away))?;
    assert!(!log(&present)?.contains("disconnected from the cloud"), "{}", log(&present)?);

    // One that does not renew is let in as long as its CA is trusted.
    let folder = lab.scratch.path().join("holdout/etc/kubeedge");
    let file = |name: &str| folder.join(name);
    std::fs::create_dir_all(file("ca"))?;
    std::fs::create_dir_all(file("certs"))?;
    pki::files::write_ca(&file("ca/rootCA.crt"), new_ca.certificate())?;
    pki::files::write_identity(&file("certs/server.crt"), &file("certs/server.key"), &holdout)?;
    let is_let_in = || -> Result<bool> {
        let tls = peer::tls(&lab.scratch.path().join("holdout"), true)?;
        let connected = lab.runtime.block_on(peer::connect(tls, lab.cloud.edge_port, "holdout"));
        Ok(matches!(connected, Ok(Ok(_))))
    };
    assert!(is_let_in()?);
    lab.cloud.keadm(&["ca", "retire"])?;
    wait::for_true("only one CA is trusted", PATIENCE, || {
        Ok(bundle(&present)?.certificates().len() == 1 && bundle(&away)?.certificates().len() == 1)
    })?;
    lab.restart_cloud()?;
    lab.connected("present", 2)?;
    lab.connected("away", 3)?;
    lab.joined("late", &[])?;
    assert!(!is_let_in()?, "a certificate of the retired CA was let in");
    Ok(())
}

#[test]
fn a_token_may_be_good_once_and_for_some_nodes_only() -> Result<()> {
    let lab = Lab::start(&[])?;
    let make = |flags: &[&str]| -> Result<String> {
        Ok(lab.cloud.keadm(&[&["gettoken"], flags].concat())?.trim().to_owned())
    };
    // The real thing first.
    let edge = lab.join("store-1", &make(&["--single-use", "--nodes", "store-*"])?, &[])?;
    lab.connected("store-1", 1)?;

    let token = make(&["--single-use", "--nodes", "store-*", "--ttl", "1h"])?;
    let request = |node: &str| pki::node_request(node).map(|(_, request)| request);
    let (status, text) = lab.register(&edge, &token, "van-1", &request("van-1")?)?;
    assert!(status == 401 && text.contains("store-*"), "{status} {text}");
    let asked = request("store-2")?;
    assert_eq!(lab.register(&edge, &token, "store-2", &asked)?.0, 200);
    assert_eq!(
        lab.register(&edge, &token, "store-2", &asked)?.0,
        200,
        "an answer that was lost is given again"
    );
    let (status, text) = lab.register(&edge, &token, "store-3", &request("store-3")?)?;
    assert!(status == 401 && text.contains("was used for node store-2"), "{status} {text}");
    let (status, _) = lab.register(&edge, &token, "store-2", &request("store-2")?)?;
    assert_eq!(status, 401, "another key of the same node is another use");

    let error = make(&["--nodes", "Store_*"]).err().context("a pattern that is no name")?;
    assert!(format!("{error:#}").contains("--nodes"), "{error:#}");
    Ok(())
}

/// Kubernetes approves requests for serving certificates of nobody by itself.
#[test]
fn a_serving_certificate_is_approved_for_the_node_itself_alone() -> Result<()> {
    let lab = Lab::start(&[])?;
    let kubectl = lab.cloud.kubectl();
    let _edge = lab.joined("edge-1", &[])?;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "edge-1"}});
    kubectl.create(&node.to_string())?;
    let ask = |name: &str, host: &str| -> Result<()> {
        let mut params = rcgen::CertificateParams::new(vec![host.to_owned()])?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:edge-1");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
        let request = params.serialize_request(&rcgen::KeyPair::generate()?)?;
        let pem = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            STANDARD.encode(request.der())
        );
        let object = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": name}, "spec": {"signerName": "kubernetes.io/kubelet-serving",
            "usages": ["digital signature", "server auth"], "request": STANDARD.encode(pem)}});
        // CloudCore makes requests for its nodes.
        let account = "system:serviceaccount:kubeedge:cloudcore";
        kubectl.create_as(account, &object.to_string()).map(drop)
    };
    ask("another", "kubernetes.default")?;
    ask("own", "edge-1")?;
    let approved = |name: &str| -> Result<bool> {
        Ok(kubectl.field("csr", name, ".status.conditions[?(@.type==\"Approved\")].status")? == "True")
    };
    wait::for_true("the node's own is approved", PATIENCE, || approved("own"))?;
    wait::for_true("CloudCore says why the other one waits", PATIENCE, || {
        Ok(std::fs::read_to_string(lab.cloud.log())?.contains("is no name of node"))
    })?;
    ensure!(!approved("another")?);
    Ok(())
}
