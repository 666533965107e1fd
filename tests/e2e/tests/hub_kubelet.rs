//! A stock kubelet in front of EdgeCore in hub form, on the embedded API server or on a given cluster.
//!
//! `CAUSEWAY_KUBELET=FILE cargo nextest run -p e2e --test hub_kubelet`; `CAUSEWAY_KUBECONFIG=FILE` for a cluster that is there.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::stock::{self, Hub, Kubelet};
use harness::cloud::NODE_IDENTITY;
use harness::kubectl::Kubectl;
use harness::programs::{self, Programs};
use harness::site::{IMAGE, NODE, Site};
use harness::wait::{self, PATIENCE};
use serde_json::{Value, json};

const POD: &str = "behind-the-hub";
const LEASE: &str = "leases.coordination.k8s.io/edge-1";

fn pod() -> String {
    let command = ["sh", "-c", "echo started; trap 'exit 0' TERM; while true; do sleep 1; done"];
    let spec = json!({
        "nodeName": NODE, "terminationGracePeriodSeconds": 1, "restartPolicy": "Always",
        "containers": [{ "name": "c", "image": IMAGE, "command": command }],
    });
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": POD }, "spec": spec }).to_string()
}

/// The container's id without its scheme, and how often it was started again; once it runs.
fn running(kubectl: &Kubectl) -> Result<Option<(String, u64)>> {
    let pod: Value = kubectl.get("pod", POD)?;
    let status = &pod["status"]["containerStatuses"][0];
    let id = status["containerID"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let runs = status["ready"] == true && status["state"]["running"].is_object();
    Ok(runs.then(|| (id.to_owned(), status["restartCount"].as_u64().unwrap_or_default())))
}

fn runs_after(kubectl: &Kubectl, restarts: u64) -> Result<String> {
    let what = format!("the pod ready after {restarts} restarts");
    let found = wait::until(&what, PATIENCE, || {
        Ok(running(kubectl)?.filter(|(_, restarted)| *restarted == restarts))
    })?;
    Ok(found.0)
}

fn renewed(kubectl: &Kubectl) -> Result<String> {
    kubectl.run(&["-n", "kube-node-lease", "get", LEASE, "-o", "jsonpath={.spec.renewTime}"])
}

/// Waits until the lease says another time than `before`, and the node is ready.
fn beats(kubectl: &Kubectl, before: &str) -> Result<String> {
    let ready = ".status.conditions[?(@.type==\"Ready\")].status";
    wait::until("a heartbeat of a ready node", PATIENCE, || {
        let now = renewed(kubectl)?;
        let is_ready = kubectl.field("node", NODE, ready)? == "True";
        Ok(Some(now).filter(|now| now.as_str() > before && is_ready))
    })
}

/// The pod's log, as the kubelet tells it.
fn log(kubelet: &Kubelet) -> Result<String> {
    let mut command = Command::new("curl");
    let url = format!("https://127.0.0.1:{}/containerLogs/default/{POD}/c", kubelet.port);
    command.args(["-sSfk", "-m", "10", &url]);
    programs::run(command)
}

fn tasks(site: &Site) -> Result<BTreeSet<String>> {
    Ok(site.running_tasks()?.into_iter().collect())
}

fn story(site: &Site, kubelet: &mut Kubelet, node: &Kubectl) -> Result<()> {
    let cloud = site.kubectl();
    wait::for_true("the node registered by its kubelet", PATIENCE, || {
        kubelet.check()?;
        Ok(cloud.get("node", NODE).is_ok())
    })?;
    beats(&cloud, "")?;
    wait::for_true("the account of pods", PATIENCE, || Ok(cloud.get("serviceaccount", "default").is_ok()))?;
    cloud.apply(&pod())?;
    runs_after(&cloud, 0)?;
    wait::for_true("the log of the pod", PATIENCE, || Ok(log(kubelet)?.contains("started")))?;
    let first = running(node)?.context("the pod as the node sees it")?.0;

    site.relay.cut();
    stock::wait_until_cut(node)?;
    let told = cloud.get("pod", POD)?["status"].clone();
    site.kill_container(&first)?;
    let second = runs_after(node, 1)?;
    ensure!(second != first && site.running_tasks()?.contains(&second));

    kubelet.kill9()?;
    site.edge.kill9()?;
    let before = tasks(site)?;
    site.edge.start()?;
    wait::for_true("the hub again", PATIENCE, || Ok(renewed(node).is_ok()))?;
    let kept = renewed(node)?;
    kubelet.again()?;
    let meanwhile = beats(node, &kept)?;
    // A kubelet that took the pod for gone would have ended it by then.
    wait::pause(Duration::from_secs(5));
    let after = tasks(site)?;
    ensure!(after == before, "other containers run than before: {after:?}, not {before:?}");
    ensure!(runs_after(node, 1)? == second);
    ensure!(cloud.get("pod", POD)?["status"] == told, "the cloud heard of it while the node was cut off");

    site.relay.heal();
    ensure!(runs_after(&cloud, 1)? == second);
    beats(&cloud, &meanwhile)?;
    kubelet.check()?;
    cloud.run(&["delete", "pod", POD, "--wait=false"])?;
    wait::for_true("the end of the pod", PATIENCE, || {
        Ok(cloud.get("pod", POD).is_err() && !site.running_tasks()?.contains(&second))
    })
}

#[test]
fn a_stock_kubelet_behind_the_hub_goes_on_without_the_cloud_and_restarts_without_it() -> Result<()> {
    let Some(binary) = stock::binary("CAUSEWAY_KUBELET") else { return Ok(()) };
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let hub = Hub::new(Ipv4Addr::new(127, 0, 0, 2))?.settings();
    let hub: Vec<&str> = hub.iter().map(String::as_str).collect();
    let site = Site::start_on(&Programs::find()?, true, (&[NODE_IDENTITY], &hub), |_| {})?;
    let kubeconfig = Hub::kubeconfig(&site)?;
    let folder = site.folder().join("kubelet");
    let runtime = site.containerd()?.socket();
    let mut kubelet = Kubelet::start(&binary, &folder, (NODE, &kubeconfig), &runtime)?;
    let told = story(&site, &mut kubelet, &Kubectl::new(&kubeconfig));
    let _ = std::fs::copy(kubelet.log(), site.kept_logs().join("kubelet.log"));
    told
}
