//! The Kubernetes API on a node: what pods are told of it, and kubectl of who is root there, without the cloud.

use anyhow::{Context, Result, ensure};
use harness::kubectl::Kubectl;
use harness::ports;
use harness::programs::Programs;
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
    let (server, dummy) = (ports::free()?, ports::free()?);
    let module = "modules.metaManager.metaServer";
    let settings = [
        format!("{module}.enable=true"),
        format!("{module}.server=127.0.0.1:{server}"),
        format!("{module}.dummyServer=127.0.0.2:{dummy}"),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let site = Site::start_with(&Programs::find()?, true, &settings, |_| {})?;
    site.node_ready()?;
    site.apply_greeter()?;
    site.pod_running()?;
    let environment = in_greeter(&site, "echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT")?;
    ensure!(environment.trim() == format!("127.0.0.2:{dummy}"), "{environment}");
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
