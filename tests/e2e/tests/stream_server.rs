//! API servers that are not ours to change reach nodes as they reach kubelets: at the stream server of any CloudCore.

use anyhow::{Result, ensure};
use e2e::peer;
use harness::pair::Pair;
use harness::programs::Programs;
use harness::site::{IMAGE, NODE};
use harness::wait::PATIENCE;
use harness::{given, wait};
use serde_json::json;

struct Lab(Pair);

impl Lab {
    fn start(edge: &[&str], with_tunnel: bool, node_address: &str) -> Result<Lab> {
        Ok(Lab(Pair::start_at(&Programs::find()?, edge, with_tunnel, node_address)?))
    }

    /// A pod that says a line and goes on.
    fn pod(&self) -> Result<()> {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shell"},
            "spec": {"nodeName": NODE, "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "c", "image": IMAGE, "command": ["sh", "-c", "echo started; sleep 1000000"]}]}});
        self.0.kubectl.apply(&pod.to_string())?;
        wait::for_true("the pod runs", PATIENCE, || {
            Ok(self.0.kubectl.field("pod", "shell", ".status.phase")? == "Running")
        })
    }

    /// Asks the stream server of a replica as who `arguments` say.
    fn asked(&self, replica: usize, arguments: &[&str], path: &str) -> Result<String> {
        let server = format!("https://127.0.0.1:{}", self.0.ports[replica]);
        let mut command = std::process::Command::new("kubectl");
        command.env("HOME", self.0.folder()).args(["--kubeconfig", "/dev/null", "--server", &server]);
        command.args(["--insecure-skip-tls-verify"]).args(arguments).args(["get", "--raw", path]);
        harness::programs::run(command)
    }
}

#[test]
fn a_clusters_api_server_reaches_nodes_through_the_stream_server_of_any_replica() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let lab = Lab::start(&[], false, &given::address().to_string())?;
    lab.pod()?;
    wait::for_true("logs", PATIENCE, || {
        Ok(lab.0.kubectl.run(&["logs", "shell"]).is_ok_and(|log| log == "started\n"))
    })?;
    let ran = lab.0.kubectl.command(&["exec", "shell", "--", "sh", "-c", "echo out; exit 7"]).output()?;
    ensure!(ran.stdout == b"out\n" && ran.status.code() == Some(7), "{ran:?}");
    let summary =
        lab.0.kubectl.run(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/stats/summary")])?;
    ensure!(summary.contains(NODE), "{summary}");

    // The replica that does not hold the session asks the one that does.
    let [certificate, key] = lab.0.administrator()?;
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let administrator = ["--client-certificate", certificate.as_str(), "--client-key", key.as_str()];
    for replica in 0..lab.0.replicas.len() {
        for _ in 0..5 {
            let log = lab.asked(replica, &administrator, "/containerLogs/default/shell/c")?;
            ensure!(log == "started\n", "replica {replica}: {log:?}");
        }
    }
    refusals(&lab)?;
    a_metrics_client(&lab)
}

/// A client that knows the node by its address alone, as metrics-server does, asks any replica under the node's own name.
fn a_metrics_client(lab: &Lab) -> Result<()> {
    let kubectl = &lab.0.kubectl;
    let name = kubectl.field("node", NODE, ".status.addresses[?(@.type==\"InternalDNS\")].address")?;
    ensure!(name == format!("{NODE}.{}", given::DOMAIN), "{name}");
    let metadata = json!({"name": "scraper"});
    let account = json!({"kind": "ServiceAccount", "name": "scraper", "namespace": "default"});
    let rules = json!([{"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]}]);
    let group = "rbac.authorization.k8s.io";
    for object in [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": metadata, "rules": rules}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "scraper"}, "subjects": [account]}),
    ] {
        kubectl.apply(&object.to_string())?;
    }
    let bearer = format!("Bearer {}", kubectl.run(&["create", "token", "scraper"])?.trim());
    let headers = [("Authorization", bearer.as_str())];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for port in &lab.0.ports {
        let asked = |path: &str| {
            let tls = peer::tls(&lab.0.edge.root, false)?;
            runtime.block_on(peer::get_from(tls, &name, *port, path, &headers, Vec::new()))
        };
        let (status, body) = asked("/metrics/resource")?;
        let text = String::from_utf8_lossy(&body);
        ensure!(status == 200 && text.contains("node_cpu_usage_seconds_total"), "{status}: {text}");
        let (status, _) = asked("/containerLogs/default/shell/c")?;
        ensure!(status == 403, "logs with rights to metrics: {status}");
    }
    Ok(())
}

/// Who may not, gets nothing.
fn refusals(lab: &Lab) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let get = |presenting: bool, token: Option<&str>| {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> =
            bearer.iter().map(|value| ("Authorization", value.as_str())).collect();
        let tls = peer::tls(&lab.0.edge.root, presenting)?;
        let path = "/containerLogs/default/shell/c";
        runtime.block_on(peer::get(tls, lab.0.ports[0], path, &headers, Vec::new()))
    };
    let (nobody, _) = get(false, None)?;
    ensure!(nobody == 401, "nobody: {nobody}");
    let (unknown, _) = get(false, Some("not.a.token"))?;
    ensure!(unknown == 401, "an unknown token: {unknown}");
    let token = lab.0.kubectl.run(&["create", "token", "default"])?;
    let (guest, _) = get(false, Some(token.trim()))?;
    ensure!(guest == 403, "a service account without rights: {guest}");
    // A node's certificate is of another CA than those of API servers: TLS ends, or nobody is known.
    let node = get(true, None);
    ensure!(node.as_ref().map_or(true, |(status, _)| *status == 401), "a node: {node:?}");
    Ok(())
}

#[test]
fn an_edge_in_kubeedges_dialect_is_reached_through_its_tunnel() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let lab = Lab::start(&["modules.edgeHub.dialect=kubeedge"], true, &given::address().to_string())?;
    lab.pod()?;
    wait::for_true("logs", PATIENCE, || {
        Ok(lab.0.kubectl.run(&["logs", "shell"]).is_ok_and(|log| log == "started\n"))
    })?;
    let ran = lab.0.kubectl.command(&["exec", "shell", "--", "sh", "-c", "echo out; exit 7"]).output()?;
    ensure!(ran.stdout == b"out\n" && ran.status.code() == Some(7), "{ran:?}");
    let metrics =
        lab.0.kubectl.run(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/metrics/resource")])?;
    ensure!(metrics.contains("node_cpu_usage_seconds_total"), "{metrics}");
    Ok(())
}

#[test]
fn api_servers_reach_nodes_by_a_name_of_the_stream_server_as_well() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let lab = Lab::start(&[], false, "localhost")?;
    lab.pod()?;
    let addresses = lab.0.kubectl.field("node", NODE, ".status.addresses[*].address")?;
    ensure!(addresses == format!("localhost {NODE}.{}", given::DOMAIN), "{addresses}");
    wait::for_true("logs", PATIENCE, || {
        Ok(lab.0.kubectl.run(&["logs", "shell"]).is_ok_and(|log| log == "started\n"))
    })?;
    // kube-apiserver proxies to no name of a loopback address.
    if given::kubeconfig().is_some() {
        return Ok(());
    }
    let summary =
        lab.0.kubectl.run(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/stats/summary")])?;
    ensure!(summary.contains(NODE), "{summary}");
    Ok(())
}
