//! Policies of nodes that may be out of reach: their pods are not evicted before the chosen time, and get their own terms back.

use anyhow::{Result, ensure};
use harness::kubectl::Kubectl;
use harness::programs::Programs;
use harness::site::{NODE, Site};
use harness::wait;
use harness::wait::PATIENCE;
use serde_json::{Value, json};

const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

fn pod(name: &str, labels: Value) -> Value {
    let toleration = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "x"}],
            "tolerations": [toleration("node.kubernetes.io/not-ready"), toleration(UNREACHABLE)]}})
}

/// An edge without pods makes none itself.
fn make_node(kubectl: &Kubectl) -> Result<()> {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
    kubectl.create(&node.to_string()).map(drop)
}

/// Seconds for which a pod tolerates that its node is unreachable; `None`: for ever.
fn tolerated(kubectl: &Kubectl, name: &str) -> Result<Option<i64>> {
    let pod = kubectl.get("pod", name)?;
    let tolerations = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    let one = tolerations.iter().find(|one| one["key"] == UNREACHABLE);
    Ok(one.and_then(|one| one["tolerationSeconds"].as_i64()))
}

fn waits(kubectl: &Kubectl, name: &str, seconds: Option<i64>) -> Result<()> {
    wait::for_true(&format!("{name} tolerates {seconds:?}"), PATIENCE, || {
        Ok(tolerated(kubectl, name)? == seconds)
    })
}

#[test]
fn pods_of_a_node_with_a_policy_outlive_an_outage_and_endpoints_stay() -> Result<()> {
    let site = Site::start(&Programs::find()?, false, |_| {})?;
    let kubectl = site.kubectl();
    make_node(&kubectl)?;
    kubectl.create(&pod("a", json!({})).to_string())?;
    kubectl.create(&pod("labelled", json!({"app-offline.kubeedge.io": "autonomy"})).to_string())?;
    waits(&kubectl, "labelled", None)?;
    ensure!(tolerated(&kubectl, "a")? == Some(300));

    kubectl.run(&["annotate", "node", NODE, "node.openyurt.io/autonomy-duration=2h"])?;
    waits(&kubectl, "a", Some(7200))?;
    kubectl.create(&pod("b", json!({})).to_string())?;
    waits(&kubectl, "b", Some(7200))?;
    kubectl.run(&["annotate", "node", NODE, "node.beta.openyurt.io/autonomy=true"])?;
    waits(&kubectl, "a", None)?;

    // What Kubernetes' node life cycle does to a node that is not heard of.
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "c", "ready": true, "restartCount": 0, "image": "x", "imageID": "x"}]}});
    patch_status(&kubectl, "pod", "a", &status)?;
    patch_status(
        &kubectl,
        "node",
        NODE,
        &json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}),
    )?;
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    patch_status(&kubectl, "pod", "a", &unready)?;
    let ready = ".status.conditions[?(@.type==\"Ready\")].status";
    wait::for_true("the pod is ready again", PATIENCE, || Ok(kubectl.field("pod", "a", ready)? == "True"))?;

    for annotation in ["node.beta.openyurt.io/autonomy-", "node.openyurt.io/autonomy-duration-"] {
        kubectl.run(&["annotate", "node", NODE, annotation])?;
    }
    waits(&kubectl, "a", Some(300))?;
    waits(&kubectl, "b", Some(300))?;
    ensure!(tolerated(&kubectl, "labelled")?.is_none());
    Ok(())
}

#[test]
fn a_lost_link_is_told_apart_from_a_dead_node_and_keeps_new_pods_away() -> Result<()> {
    let site = Site::start(&Programs::find()?, false, |_| {})?;
    let kubectl = site.kubectl();
    make_node(&kubectl)?;
    let link = ".status.conditions[?(@.type==\"EdgeLink\")].status";
    let says = |expected: &str| Ok(kubectl.field("node", NODE, link)? == expected);
    let taints = || -> Result<Value> { Ok(kubectl.get("node", NODE)?["spec"]["taints"].clone()) };
    kubectl.run(&["taint", "node", NODE, "mine=1:NoExecute"])?;
    ensure!(says("")?, "a node that never lost its link says nothing");
    wait::for_true("the node is connected", PATIENCE, || {
        Ok(std::fs::read_to_string(site.cloud.log())?.contains("node connected"))
    })?;
    site.relay.cut();
    wait::for_true("the link is told to be lost", PATIENCE, || says("False"))?;
    wait::for_true("the taint is there", PATIENCE, || {
        let taints = taints()?;
        let mut taints = taints.as_array().into_iter().flatten();
        Ok(taints.any(|taint| taint["key"] == "causeway.io/link-lost" && taint["effect"] == "NoSchedule"))
    })?;
    site.relay.heal();
    wait::for_true("the link is told to be up", PATIENCE, || says("True"))?;
    let left = taints()?;
    // A cluster's controllers have their own of a node that is not ready.
    let own = |key: &&Value| key.as_str().is_none_or(|key| !key.starts_with("node.kubernetes.io/"));
    let keys = left.as_array().into_iter().flatten().map(|taint| &taint["key"]);
    let keys: Vec<&Value> = keys.filter(own).collect();
    ensure!(keys == ["mine"], "{left}");
    Ok(())
}

fn patch_status(kubectl: &Kubectl, kind: &str, name: &str, patch: &Value) -> Result<()> {
    kubectl.run(&[
        "patch",
        kind,
        name,
        "--subresource=status",
        "--type=strategic",
        "-p",
        &patch.to_string(),
    ])?;
    Ok(())
}
