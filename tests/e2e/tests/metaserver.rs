//! The Kubernetes API on a node: what pods are told of it, and kubectl of who is root there, without the cloud.

use anyhow::{Context as _, Result, ensure};
use harness::edge::Edge;
use harness::kubectl::Kubectl;
use harness::metaserver::MetaServer;
use harness::programs::Programs;
use harness::relay::Relay;
use harness::site::{NODE, Site};
use harness::wait;
use harness::wait::PATIENCE;

fn in_greeter(site: &Site, command: &str) -> Result<String> {
    site.kubectl().run(&["exec", "greeter", "-c", "greeter", "--", "sh", "-c", command])
}

/// What kubectl reads of the node itself.
fn node_answers(kubectl: &Kubectl) -> Result<()> {
    let pod = kubectl.get("pod", "greeter")?;
    ensure!(pod["spec"]["nodeName"] == NODE && pod["kind"] == "Pod", "{pod}");
    let here = format!("--field-selector=spec.nodeName={NODE}");
    let pods = kubectl.run(&["get", "pods", "-A", &here])?;
    ensure!(pods.contains("greeter"), "{pods}");
    let described = kubectl.run(&["describe", "pod", "greeter"])?;
    ensure!(described.contains("Name:") && described.contains("counter:"), "{described}");
    let log = kubectl.run(&["logs", "greeter", "-c", "greeter", "--tail=1"])?;
    ensure!(!log.trim().is_empty(), "no log");
    let inside = kubectl.run(&["exec", "greeter", "-c", "greeter", "--", "echo", "inside"])?;
    ensure!(inside.trim() == "inside", "{inside}");
    Ok(())
}

#[test]
fn an_operator_reads_pods_and_logs_at_the_node_and_pods_are_told_of_its_api() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let server = MetaServer::new()?;
    let settings = server.settings();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let site = Site::start_with(&Programs::find()?, true, &settings, |_| {})?;
    site.node_ready()?;
    site.apply_greeter()?;
    site.pod_running()?;
    let environment = in_greeter(&site, "echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT")?;
    ensure!(environment.trim() == format!("127.0.0.2:{}", server.dummy), "{environment}");
    let ca = in_greeter(&site, "cat /var/run/secrets/kubernetes.io/serviceaccount/ca.crt")?;
    ensure!(ca.matches("BEGIN CERTIFICATE").count() == 2, "{ca}");

    let kubeconfig = site.edge.root.join("var/lib/kubeedge/metaserver/kubeconfig");
    let kubectl = Kubectl::new(&kubeconfig);
    site.relay.cut();
    for started_again in [false, true] {
        if started_again {
            site.edge.kill9()?;
            site.edge.start()?;
        }
        let mut last = String::new();
        let answers = wait::for_true("the node's own API", PATIENCE, || {
            let answers = node_answers(&kubectl);
            last = answers.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
            Ok(answers.is_ok())
        });
        answers.with_context(|| last)?;
        let refused = kubectl.run(&["create", "configmap", "x", "--from-literal=a=b"]);
        let why = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(why.contains("cut off"), "a write was not refused: {why}");
    }
    Ok(())
}

/// What a reader of config maps is given in the cloud, and a service account without rights.
const ACCOUNTS: &str = "\
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: default}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: nobody, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: default}
rules: [{apiGroups: [\"\"], resources: [configmaps], verbs: [get, list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: default}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: default, labels: {app: shop}}
data: {round: one}
";

fn round(kubectl: &Kubectl) -> Result<String> {
    let map = kubectl.get("configmap", "settings")?;
    Ok(map["data"]["round"].as_str().unwrap_or_default().to_owned())
}

/// A command that has to fail, and with these words.
fn fails(kubectl: &Kubectl, arguments: &[&str], words: &str) -> Result<()> {
    let told = kubectl.run(arguments).err().map(|error| format!("{error:#}"));
    ensure!(told.as_ref().is_some_and(|told| told.contains(words)), "{arguments:?}: {told:?}");
    Ok(())
}

#[test]
fn a_service_account_reads_at_the_node_what_it_may_with_the_cloud_and_without() -> Result<()> {
    let server = MetaServer::new()?;
    let settings = server.settings();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let site = Site::start_with(&Programs::find()?, false, &settings, |_| {})?;
    site.kubectl().apply(ACCOUNTS)?;
    let administrator = site.kubectl();
    let with_token =
        |account: &str| anyhow::Ok(Kubectl::new(&server.kubeconfig(&site.edge, &administrator, account)?));
    let (reader, nobody) = (with_token("reader")?, with_token("nobody")?);

    wait::for_true("the cloud's answer at the node", PATIENCE, || {
        Ok(round(&reader).is_ok_and(|round| round == "one"))
    })?;
    ensure!(reader.run(&["get", "configmaps", "-o", "name"])?.contains("configmap/settings"));
    fails(&reader, &["get", "secrets"], "forbidden")?;
    fails(&reader, &["create", "configmap", "x"], "forbidden")?;
    fails(&nobody, &["get", "configmap", "settings"], "forbidden")?;
    let forged = Kubectl::new(&site.edge.root.join("reader.kubeconfig"));
    fails(&forged, &["--token=eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.", "get", "configmaps"], "nauthorized")?;

    site.relay.cut();
    for started_again in [false, true] {
        if started_again {
            site.edge.kill9()?;
            site.edge.start()?;
        }
        wait::for_true("the same without the cloud", PATIENCE, || {
            Ok(round(&reader).is_ok_and(|round| round == "one"))
        })?;
        ensure!(
            reader.run(&["get", "configmaps", "-l", "app=shop", "-o", "name"])?.trim()
                == "configmap/settings"
        );
        fails(&reader, &["get", "secrets"], "forbidden")?;
        fails(&nobody, &["get", "configmap", "settings"], "forbidden")?;
        fails(
            &reader,
            &["patch", "configmap", "settings", "-p", "{\"data\": {\"round\": \"x\"}}"],
            "cut off",
        )?;
        fails(
            &forged,
            &["--token=eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.", "get", "configmaps"],
            "nauthorized",
        )?;
    }
    site.kubectl().run(&["patch", "configmap", "settings", "-p", "{\"data\": {\"round\": \"two\"}}"])?;
    ensure!(round(&reader)? == "one", "the node knew of a change while it was cut off");
    site.relay.heal();
    wait::for_true("the change after the cut", PATIENCE, || {
        Ok(round(&reader).is_ok_and(|round| round == "two"))
    })?;
    Ok(())
}

/// May run commands in pods, and read them and their logs.
const OPERATOR: &str = "\
apiVersion: v1
kind: ServiceAccount
metadata: {name: operator, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: operator, namespace: default}
rules:
- {apiGroups: [\"\"], resources: [pods, pods/log], verbs: [get]}
- {apiGroups: [\"\"], resources: [pods/exec], verbs: [get, create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: operator, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: operator}
subjects: [{kind: ServiceAccount, name: operator, namespace: default}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: nobody, namespace: default}
";

#[test]
fn who_may_runs_commands_in_pods_of_other_nodes_through_his_own() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let programs = Programs::find()?;
    let site = Site::start(&programs, true, |_| {})?;
    site.node_ready()?;
    site.apply_greeter()?;
    site.pod_running()?;
    site.kubectl().apply(OPERATOR)?;
    let server = MetaServer::new()?;
    let settings = server.settings();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let (root, link) = (site.folder().join("other"), Relay::start(site.cloud.edge_address())?);
    let other = Edge::join_with(&programs, &site.cloud, "edge-2", &root, link.address(), None, &settings)?;
    let administrator = site.kubectl();
    let with_token =
        |account: &str| anyhow::Ok(Kubectl::new(&server.kubeconfig(&other, &administrator, account)?));
    let (operator, nobody) = (with_token("operator")?, with_token("nobody")?);
    wait::for_true("the pod through the other node", PATIENCE, || {
        Ok(operator.get("pod", "greeter").is_ok())
    })?;

    let exec = ["exec", "greeter", "-c", "greeter", "--"];
    let inside = operator.run(&[exec.as_slice(), &["echo", "inside"]].concat())?;
    ensure!(inside.trim() == "inside", "{inside}");
    let much =
        operator.run(&[exec.as_slice(), &["sh", "-c", "seq 1 200000 | tail -c 1000000 | wc -c"]].concat())?;
    ensure!(much.trim() == "1000000", "{much}");
    let failed = operator.run(&[exec.as_slice(), &["sh", "-c", "exit 7"]].concat());
    ensure!(failed.is_err_and(|error| format!("{error:#}").contains("exit code 7")));
    ensure!(!operator.run(&["logs", "greeter", "-c", "greeter", "--tail=1"])?.trim().is_empty());
    fails(&nobody, &[exec.as_slice(), &["true"]].concat(), "forbidden")?;
    link.cut();
    wait::for_true("that the node is cut off", PATIENCE, || {
        Ok(fails(&operator, &[exec.as_slice(), &["true"]].concat(), "cut off").is_ok())
    })
}
