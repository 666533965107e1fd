//! What is not allowed is refused with a clear error, costs little, and disturbs no other node.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::peer;
use harness::cloud::Cloud;
use harness::edge::Edge;
use harness::programs::Programs;
use harness::{memory, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A cloud, an edge that must not be disturbed, and the folder of a second edge whose certificate the attacker has.
struct Lab {
    cloud: Cloud,
    bystander: Edge,
    /// Certificate files of node `intruder`, whose EdgeCore is stopped.
    intruder: PathBuf,
    runtime: tokio::runtime::Runtime,
    scratch: TempDir,
    programs: Programs,
}

impl Lab {
    fn start() -> Result<Lab> {
        let programs = Programs::find()?;
        let scratch = tempfile::tempdir()?;
        let cloud = Cloud::init(&programs, &scratch.path().join("cloud"))?;
        let join = |node: &str| {
            Edge::join(&programs, &cloud, node, &scratch.path().join(node), cloud.edge_address(), None)
        };
        let bystander = join("bystander")?;
        let intruder = join("intruder")?.root.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let lab = Lab { cloud, bystander, intruder, runtime, scratch, programs };
        lab.cloud_says("node connected node=bystander")?;
        Ok(lab)
    }

    /// Waits for a line in CloudCore's log.
    fn cloud_says(&self, text: &str) -> Result<()> {
        wait::for_true(&format!("CloudCore logs {text:?}"), Duration::from_secs(20), || {
            Ok(std::fs::read_to_string(self.cloud.log())?.contains(text))
        })
    }

    /// The bystander never lost its connection.
    fn bystander_is_undisturbed(&self) -> Result<()> {
        self.bystander.pid()?;
        let log = std::fs::read_to_string(self.bystander.log())?;
        assert!(!log.contains("disconnected from the cloud"), "{log}");
        Ok(())
    }

    fn connect_as_intruder(&self) -> Result<peer::Socket> {
        let tls = peer::tls(&self.intruder, true)?;
        let connected = self.runtime.block_on(peer::connect(tls, self.cloud.edge_port, "intruder"))?;
        connected.map_err(|(status, text)| anyhow::anyhow!("{status}: {text}"))
    }

    /// Sends a message as the intruder and gives the answer's content.
    fn ask(
        &self,
        socket: &mut peer::Socket,
        operation: &str,
        resource: &str,
        content: Value,
    ) -> Result<Value> {
        let id = format!("test-{operation}-{resource}");
        let message = json!({
            "header": {"msg_id": id, "timestamp": 1_700_000_000_000_i64},
            "route": {"source": "edged", "group": "meta", "operation": operation, "resource": resource},
            "content": content,
        });
        self.runtime.block_on(async {
            peer::send(socket, &message.to_string()).await?;
            let answer = tokio::time::timeout(Duration::from_secs(20), peer::answer(socket, &id)).await;
            Ok(answer.context("no answer in time")??["content"].clone())
        })
    }

    fn register(&self, token: &str, node: &str, request: Vec<u8>) -> Result<(u16, String)> {
        let tls = peer::tls(&self.intruder, false)?;
        let bearer = format!("Bearer {}", token.split_once('.').map_or(token, |(_, jwt)| jwt));
        let headers = [("NodeName", node), ("Authorization", bearer.as_str())];
        let answer = peer::get(tls, self.cloud.cert_port, "/edge.crt", &headers, request);
        let (status, body) = self.runtime.block_on(answer)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

#[test]
fn certificates_are_not_given_for_wrong_expired_or_foreign_requests() -> Result<()> {
    let lab = Lab::start()?;
    let token = lab.cloud.token()?;
    let request = |node: &str| pki::node_request(node).map(|(_, request)| request);

    let foreign = pki::token::mint(&pki::Authority::generate(None, 1_700_000_000)?, i64::MAX / 2);
    for (wrong, reason) in
        [("aa.bb.cc.dd", "token is not"), (&foreign, "token was not signed by this cluster")]
    {
        let (status, text) = lab.register(wrong, "new", request("new")?)?;
        assert_eq!(status, 401, "{text}");
        assert!(text.contains(reason), "{text}");
        lab.cloud_says(reason)?;
    }

    let expired = expired_token(&lab)?;
    let (status, text) = lab.register(&expired, "new", request("new")?)?;
    assert_eq!(status, 401);
    assert!(text.contains("expired"), "{text}");

    let (status, text) = lab.register(&token, "new", request("bystander")?)?;
    assert_eq!(status, 403);
    assert!(text.contains("system:node:bystander"), "{text}");

    let (status, _) = lab.register(&token, "new", vec![0x30; 100_000])?;
    assert_eq!(status, 413);
    let (status, _) = lab.register(&token, "new", b"not a request".to_vec())?;
    assert_eq!(status, 400);
    let (status, _) = lab.register(&token, "new", request("new")?)?;
    assert_eq!(status, 200, "a good request still passes");

    // An operator who mistypes the token is told so, and nothing is half joined.
    let root = lab.scratch.path().join("typo");
    let bad = format!("{}x", &token[..token.len() - 1]);
    let (link, cert) = (lab.cloud.edge_address().to_string(), lab.cloud.cert_port.to_string());
    // Not the port that an EdgeCore of this machine may have.
    let broker = format!("modules.eventBus.mqttServerInternal=tcp://127.0.0.1:{}", harness::ports::free()?);
    let joined = lab.programs.keadm(&[
        "join",
        "-e",
        &link,
        "-s",
        &cert,
        "-t",
        &bad,
        "-i",
        "typo",
        "--root",
        &root.to_string_lossy(),
        "--set",
        "modules.edged.enable=false",
        "--set",
        &broker,
    ]);
    let error = format!("{:#}", joined.err().context("joined with a bad token")?);
    assert!(error.contains("401"), "{error}");
    lab.bystander_is_undisturbed()
}

/// A token signed with the cluster's own key that is past its end.
fn expired_token(lab: &Lab) -> Result<String> {
    Ok(pki::token::mint(&e2e::ca::authority(&lab.cloud)?, 1_600_000_000))
}

#[test]
fn a_certificate_speaks_for_its_own_node_only() -> Result<()> {
    let lab = Lab::start()?;
    let tls = peer::tls(&lab.intruder, true)?;
    let refused = lab.runtime.block_on(peer::connect(tls, lab.cloud.edge_port, "bystander"))?;
    let (status, text) = refused.err().context("was let in as another node")?;
    assert_eq!(status, 403);
    assert!(text.contains("certificate of node intruder may not connect as node bystander"), "{text}");
    lab.cloud_says("connection refused")?;

    let tls = peer::tls(&lab.intruder, false)?;
    let anonymous = lab.runtime.block_on(peer::connect(tls, lab.cloud.edge_port, "bystander"));
    assert!(
        anonymous.is_err() || anonymous.is_ok_and(|upgraded| upgraded.is_err()),
        "let in without a certificate"
    );
    lab.bystander_is_undisturbed()
}

#[test]
fn a_node_reaches_nothing_of_another_node() -> Result<()> {
    let lab = Lab::start()?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "theirs", "namespace": "default"},
        "spec": {"nodeName": "bystander", "containers": [{"name": "c", "image": "none",
            "envFrom": [{"secretRef": {"name": "theirs"}}]}]},
    });
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs", "namespace": "default"}});
    lab.cloud.kubectl().apply(&secret.to_string())?;
    lab.cloud.kubectl().apply(&pod.to_string())?;
    let uid = lab.cloud.kubectl().field("pod", "theirs", ".metadata.uid")?;
    let mut socket = lab.connect_as_intruder()?;

    let patch = Value::String(json!({"metadata": {"uid": uid}, "status": {"phase": "Failed"}}).to_string());
    let token_request = json!({"spec": {"boundObjectRef": {"kind": "Pod", "name": "theirs", "uid": uid}}});
    for (operation, resource, content) in [
        ("patch", "default/podpatch/theirs", patch),
        ("delete", "default/pod/theirs", json!({"gracePeriodSeconds": 0})),
        ("query", "default/secret/theirs", Value::Null),
        ("query", "kubeedge/secret/casecret", Value::Null),
        ("query", "default/serviceaccounttoken/default", token_request),
        ("patch", "null/nodepatch/bystander", Value::String("{}".into())),
        ("update", "kube-node-lease/lease/bystander", json!({"metadata": {"name": "bystander"}})),
    ] {
        let answer = lab.ask(&mut socket, operation, resource, content)?;
        let status = if answer["Err"].is_null() { &answer["ErrStatus"] } else { &answer["Err"]["ErrStatus"] };
        assert_eq!(status["code"], 403, "{operation} {resource}: {answer}");
    }
    lab.cloud_says("message refused")?;
    assert_eq!(lab.cloud.kubectl().field("pod", "theirs", ".status.phase")?, "Pending");
    lab.bystander_is_undisturbed()
}

#[test]
fn frames_that_are_not_messages_end_only_their_own_session_and_cost_no_memory() -> Result<()> {
    let lab = Lab::start()?;
    let before = memory::resident_kb(lab.cloud.pid()?)?;

    let mut socket = lab.connect_as_intruder()?;
    let (code, reason) = lab.runtime.block_on(async {
        peer::send(&mut socket, "this is not JSON").await?;
        anyhow::Ok(peer::closing(&mut socket).await)
    })?;
    assert_eq!((code, reason.as_str()), (1007, "frame is not a message"));
    lab.cloud_says("frame is not a message")?;

    let mut socket = lab.connect_as_intruder()?;
    lab.runtime.block_on(async {
        // The server may close before all of it is written.
        let _ = peer::send(&mut socket, &"x".repeat(100 * 1024 * 1024)).await;
        peer::closing(&mut socket).await
    });
    lab.cloud_says("frame larger than")?;

    let mut socket = lab.connect_as_intruder()?;
    lab.runtime.block_on(async {
        let deep = format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000));
        let route =
            r#"{"source":"edged","group":"meta","operation":"insert","resource":"null/node/intruder"}"#;
        let text =
            format!(r#"{{"header":{{"msg_id":"deep","timestamp":1}},"route":{route},"content":{deep}}}"#);
        peer::send(&mut socket, &text).await
    })?;
    let refused = lab.ask(&mut socket, "query", "null/node/bystander", Value::Null)?;
    assert_eq!(refused["ErrStatus"]["code"], 403, "the session outlives deep JSON: {refused}");

    let after = memory::resident_kb(lab.cloud.pid()?)?;
    assert!(after < before + 20 * 1024, "memory went from {before} to {after} KiB");
    lab.bystander_is_undisturbed()
}

#[test]
fn a_second_machine_with_the_name_of_a_connected_node_is_refused_and_told_of() -> Result<()> {
    let lab = Lab::start()?;
    let join = |folder: &str, settings: &[&str]| {
        let root = lab.scratch.path().join(folder);
        let link = lab.cloud.edge_address();
        Edge::join_with(&lab.programs, &lab.cloud, "bystander", &root, link, None, settings)
    };
    let refused = format!("{:#}", join("second", &[]).err().context("the second machine joined")?);
    assert!(refused.contains("is connected from another machine"), "{refused}");
    lab.bystander_is_undisturbed()?;
    let events = lab.cloud.kubectl().run(&["get", "events", "-o", "json"])?;
    assert!(events.contains("DuplicateNodeName") && events.contains("bystander"), "{events}");

    // One that is meant to take the name over does.
    let third = join("third", &["modules.edgeHub.takeOver=true"])?;
    wait::for_true("the third machine is connected", Duration::from_secs(30), || {
        Ok(std::fs::read_to_string(third.log())?.contains("connected to the cloud"))
    })?;
    Ok(())
}
