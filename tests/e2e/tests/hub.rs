//! EdgeCore as a hub: what a kubelet reads and writes through it, with the cloud, without, and after a restart.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result, ensure};
use e2e::stock::{self, Hub};
use harness::cloud::NODE_IDENTITY;
use harness::kubectl::Kubectl;
use harness::programs::Programs;
use harness::site::{NODE, Site};
use harness::wait::{self, PATIENCE};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dedge-1";
const LEASE: &str = "leases.coordination.k8s.io/edge-1";

/// The events of a watch over the door without TLS, as `TYPE name ready`.
fn watch(port: u16) -> Result<Receiver<String>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("the door without TLS")?;
    write!(stream, "GET {PODS} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: kubelet/v1.36.0\r\n\r\n")?;
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        for event in lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok()) {
            let conditions = event["object"]["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().find(|one| one["type"] == "Ready");
            let ready = ready.and_then(|one| one["status"].as_str()).unwrap_or("Unknown");
            let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
            // What is no event is a Status.
            let kind = event["type"].as_str().or(event["message"].as_str()).unwrap_or_default();
            if tell.send(format!("{kind} {name} {ready}")).is_err() {
                return;
            }
        }
    });
    Ok(told)
}

fn comes(events: &Receiver<String>, wanted: &str) -> Result<()> {
    let mut others = Vec::new();
    loop {
        let event = events.recv_timeout(PATIENCE);
        let event = event.with_context(|| format!("no event {wanted:?}, but {others:?}"))?;
        if event == wanted {
            return Ok(());
        }
        others.push(event);
    }
}

fn ready(status: &str, reason: &str) -> String {
    json!({ "status": { "conditions": [{ "type": "Ready", "status": status, "reason": reason }] } })
        .to_string()
}

/// What a kubelet does every few seconds.
fn heartbeat(kubelet: &Kubectl, reason: &str) -> Result<()> {
    kubelet.run(&[
        "patch",
        "node",
        NODE,
        "--subresource=status",
        "--type=strategic",
        "-p",
        &ready("True", reason),
    ])?;
    let renewed = json!({ "spec": { "holderIdentity": reason } }).to_string();
    kubelet.run(&["-n", "kube-node-lease", "patch", LEASE, "--type=merge", "-p", &renewed]).map(drop)
}

fn reason(kubectl: &Kubectl) -> Result<String> {
    kubectl.field("node", NODE, ".status.conditions[?(@.type==\"Ready\")].reason")
}

fn holder(kubectl: &Kubectl) -> Result<String> {
    kubectl.run(&["-n", "kube-node-lease", "get", LEASE, "-o", "jsonpath={.spec.holderIdentity}"])
}

fn fails(kubectl: &Kubectl, arguments: &[&str], words: &str) -> Result<()> {
    let told = kubectl.run(arguments).err().map(|error| format!("{error:#}"));
    ensure!(told.as_ref().is_some_and(|told| told.contains(words)), "{arguments:?}: {told:?}");
    Ok(())
}

fn object(kind: &str, api: &str, name: &str, namespace: &str, spec: &Value) -> String {
    let mut metadata = json!({ "name": name });
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    json!({ "apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec }).to_string()
}

#[test]
fn a_kubelet_behind_the_hub_goes_on_without_the_cloud_and_what_it_said_arrives_later() -> Result<()> {
    if e2e::skip::beside_a_cluster("status subresources that a node may get") {
        return Ok(());
    }
    let hub = Hub::new(Ipv4Addr::new(127, 0, 0, 2))?;
    let (plain, monitor, settings) = (hub.plain, hub.monitor, hub.settings());
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let site = Site::start_on(&Programs::find()?, false, (&[NODE_IDENTITY], &settings), |_| {})?;
    let kubeconfig = Hub::kubeconfig(&site)?;
    let (kubelet, cloud) = (Kubectl::new(&kubeconfig), site.kubectl());

    wait::for_true("the node registered by its kubelet", PATIENCE, || {
        Ok(cloud.get("node", NODE).is_ok()
            || kubelet.apply(&object("Node", "v1", NODE, "", &json!({}))).is_ok())
    })?;
    let lease = json!({ "holderIdentity": NODE, "leaseDurationSeconds": 40 });
    kubelet.apply(&object("Lease", "coordination.k8s.io/v1", NODE, "kube-node-lease", &lease))?;
    heartbeat(&kubelet, "first")?;
    ensure!(reason(&cloud)? == "first" && holder(&cloud)? == "first");
    let spec = json!({ "nodeName": NODE, "containers": [{ "name": "c", "image": "i" }] });
    let mut events = watch(plain)?;
    cloud.apply(&object("Pod", "v1", "web", "default", &spec))?;
    comes(&events, "ADDED web Unknown")?;

    // Of others, nothing.
    fails(&kubelet, &["-n", "default", "get", "secrets"], "may not")?;
    fails(&kubelet, &["get", "pods", "-A"], "may not")?;
    let other = object("Node", "v1", "edge-2", "", &json!({}));
    cloud.apply(&other)?;
    let patch = ready("True", "x");
    let of_other = ["patch", "node", "edge-2", "--subresource=status", "--type=strategic", "-p", &patch];
    fails(&kubelet, &of_other, "may not")?;

    kubelet.run(&["get", "pod", "web"])?;
    site.relay.cut();
    stock::wait_until_cut(&kubelet)?;
    for (round, started_again) in [("second", false), ("third", true)] {
        if started_again {
            site.edge.kill9()?;
            site.edge.start()?;
            wait::for_true("the hub again", PATIENCE, || Ok(reason(&kubelet).is_ok()))?;
            ensure!(reason(&kubelet)? == "second" && holder(&kubelet)? == "second");
            events = watch(plain)?;
            comes(&events, "ADDED web False")?;
        }
        heartbeat(&kubelet, round)?;
        ensure!(reason(&kubelet)? == round && holder(&kubelet)? == round);
        let status = if started_again { "True" } else { "False" };
        let patch = ready(status, round);
        kubelet.run(&["patch", "pod", "web", "--subresource=status", "--type=strategic", "-p", &patch])?;
        comes(&events, &format!("MODIFIED web {status}"))?;
    }
    ensure!(reason(&cloud)? == "first", "the cloud knew of it while the node was cut off");
    site.relay.heal();
    wait::for_true("what was written meanwhile", PATIENCE, || {
        let path = ".status.conditions[?(@.type==\"Ready\")].reason";
        Ok(reason(&cloud)? == "third"
            && holder(&cloud)? == "third"
            && cloud.field("pod", "web", path)? == "third")
    })?;
    heartbeat(&kubelet, "fourth")?;
    ensure!(reason(&cloud)? == "fourth");
    let probe = format!("http://127.0.0.1:{monitor}/v1/healthz");
    let probe = std::process::Command::new("curl").args(["-sf", "-m", "10", &probe]).output()?;
    ensure!(probe.status.success(), "the port for probes: {probe:?}");
    Ok(())
}
