//! API servers that are not ours to change reach nodes as they reach kubelets: at the stream server of any CloudCore.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use e2e::peer;
use harness::balancer::Balancer;
use harness::containerd::Containerd;
use harness::edge::{Doors, Edge};
use harness::images;
use harness::kubectl::Kubectl;
use harness::programs::Programs;
use harness::replica::{ApiServer, Replica};
use harness::site::IMAGE;
use harness::wait::PATIENCE;
use harness::{ports, wait};
use serde_json::json;
use tempfile::TempDir;

const NODE: &str = "edge-1";

/// Parts stop in the order of the fields.
struct Lab {
    edge: Edge,
    replicas: Vec<Replica>,
    /// Of the replicas' stream servers.
    ports: Vec<u16>,
    kubectl: Kubectl,
    api: ApiServer,
    _balancers: Vec<Balancer>,
    _containerd: Containerd,
    _runtime: tokio::runtime::Runtime,
    scratch: TempDir,
}

impl Lab {
    /// Two CloudCores beside an API server that knows of them what its node objects say.
    fn start(edge: &[&str], with_tunnel: bool, node_address: &str) -> Result<Lab> {
        let (programs, scratch) = (Programs::find()?, tempfile::tempdir()?);
        let folder = |name: &str| scratch.path().join(name);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let containerd = runtime.block_on(Containerd::start(&folder("cri"), true))?;
        runtime.block_on(containerd.import(&images::busybox(IMAGE)))?;
        let ca = folder("edges-ca.crt");
        let api = ApiServer::start_with(
            &programs,
            &folder("api"),
            &["--kubelet-certificate-authority", &ca.to_string_lossy()],
        )?;
        let (mut replicas, mut ports) = (Vec::new(), Vec::new());
        let mut tunnel = 0;
        for name in ["a", "b"] {
            let (stream, tunnels) = (ports::free()?, ports::free()?);
            let settings = [
                "modules.cloudStream.enable=true".to_owned(),
                format!("modules.cloudStream.streamPort={stream}"),
                format!("modules.cloudStream.tunnelPort={tunnels}"),
                format!("modules.cloudStream.nodeAddress={node_address}"),
                "modules.cloudStream.ownAddress=127.0.0.1".to_owned(),
            ];
            let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
            replicas.push(Replica::prepare_with(&programs, &folder(name), &api.kubeconfig, &settings)?);
            ports.push(stream);
            tunnel = if tunnel == 0 { tunnels } else { tunnel };
        }
        for replica in &replicas {
            replica.program.start()?;
            replica.wait_ready()?;
        }
        let kubectl = Kubectl::new(&api.kubeconfig);
        std::fs::write(&ca, edges_ca(&kubectl)?)?;
        let balancers = vec![
            Balancer::start(replicas.iter().map(|replica| replica.edge).collect())?,
            Balancer::start(replicas.iter().map(|replica| replica.certificates).collect())?,
        ];
        let kubeconfig = api.kubeconfig.to_string_lossy().into_owned();
        let token = programs.keadm(&["gettoken", "--kube-config", &kubeconfig])?.trim().to_owned();
        let [link, certificates] = [balancers[0].address(), balancers[1].address()];
        let doors = Doors { link, cert_port: certificates.port(), quic_port: 0, token };
        let socket = containerd.socket();
        let socket = Path::new(socket.trim_start_matches("unix://"));
        let server = format!("modules.edgeStream.server=127.0.0.1:{tunnel}");
        let mut settings = edge.to_vec();
        if with_tunnel {
            settings.extend(["modules.edgeStream.enable=true", &server]);
        }
        let edge = Edge::join_at(&programs, &doors, NODE, &folder("edge"), Some(socket), &settings)?;
        Ok(Lab {
            edge,
            replicas,
            ports,
            kubectl,
            api,
            _balancers: balancers,
            _containerd: containerd,
            _runtime: runtime,
            scratch,
        })
    }

    /// A pod that says a line and goes on.
    fn pod(&self) -> Result<()> {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shell"},
            "spec": {"nodeName": NODE, "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "c", "image": IMAGE, "command": ["sh", "-c", "echo started; sleep 1000000"]}]}});
        wait::for_true("the node is there", PATIENCE, || Ok(self.kubectl.get("node", NODE).is_ok()))?;
        self.kubectl.apply(&pod.to_string())?;
        wait::for_true("the pod runs", PATIENCE, || {
            Ok(self.kubectl.field("pod", "shell", ".status.phase")? == "Running")
        })
    }

    /// Asks the stream server of a replica as who `arguments` say.
    fn asked(&self, replica: usize, arguments: &[&str], path: &str) -> Result<String> {
        let server = format!("https://127.0.0.1:{}", self.ports[replica]);
        let mut command = std::process::Command::new("kubectl");
        command.env("HOME", self.scratch.path()).args(["--kubeconfig", "/dev/null", "--server", &server]);
        command.args(["--insecure-skip-tls-verify"]).args(arguments).args(["get", "--raw", path]);
        harness::programs::run(command)
    }

    /// Certificate and key of the cluster's administrator, as files.
    fn administrator(&self) -> Result<[PathBuf; 2]> {
        let pki = self.api.kubeconfig.parent().context("a folder")?.join("data/pki");
        Ok([pki.join("admin.crt"), pki.join("admin.key")])
    }
}

/// The CA of the edges and of CloudCore, PEM.
fn edges_ca(kubectl: &Kubectl) -> Result<String> {
    let secret =
        kubectl.run(&["get", "secret", "casecret", "-n", "kubeedge", "-o", "jsonpath={.data.cadata}"])?;
    let der = data(&secret)?;
    Ok(pki::files::certificate_pem(&der))
}

fn data(text: &str) -> Result<Vec<u8>> {
    use base64::Engine as _;
    Ok(base64::engine::general_purpose::STANDARD.decode(text.trim())?)
}

#[test]
fn a_clusters_api_server_reaches_nodes_through_the_stream_server_of_any_replica() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let lab = Lab::start(&[], false, "127.0.0.1")?;
    lab.pod()?;
    wait::for_true("logs", PATIENCE, || {
        Ok(lab.kubectl.run(&["logs", "shell"]).is_ok_and(|log| log == "started\n"))
    })?;
    let ran = lab.kubectl.command(&["exec", "shell", "--", "sh", "-c", "echo out; exit 7"]).output()?;
    ensure!(ran.stdout == b"out\n" && ran.status.code() == Some(7), "{ran:?}");
    let summary = lab.kubectl.run(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/stats/summary")])?;
    ensure!(summary.contains(NODE), "{summary}");

    // The replica that does not hold the session asks the one that does.
    let [certificate, key] = lab.administrator()?;
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let administrator = ["--client-certificate", certificate.as_str(), "--client-key", key.as_str()];
    for replica in 0..lab.replicas.len() {
        for _ in 0..5 {
            let log = lab.asked(replica, &administrator, "/containerLogs/default/shell/c")?;
            ensure!(log == "started\n", "replica {replica}: {log:?}");
        }
    }
    refusals(&lab)
}

/// Who may not, gets nothing.
fn refusals(lab: &Lab) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let get = |presenting: bool, token: Option<&str>| {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> =
            bearer.iter().map(|value| ("Authorization", value.as_str())).collect();
        let tls = peer::tls(&lab.edge.root, presenting)?;
        let path = "/containerLogs/default/shell/c";
        runtime.block_on(peer::get(tls, lab.ports[0], path, &headers, Vec::new()))
    };
    let (nobody, _) = get(false, None)?;
    ensure!(nobody == 401, "nobody: {nobody}");
    let (unknown, _) = get(false, Some("not.a.token"))?;
    ensure!(unknown == 401, "an unknown token: {unknown}");
    let token = lab.kubectl.run(&["create", "token", "default"])?;
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
    let lab = Lab::start(&["modules.edgeHub.dialect=kubeedge"], true, "127.0.0.1")?;
    lab.pod()?;
    wait::for_true("logs", PATIENCE, || {
        Ok(lab.kubectl.run(&["logs", "shell"]).is_ok_and(|log| log == "started\n"))
    })?;
    let ran = lab.kubectl.command(&["exec", "shell", "--", "sh", "-c", "echo out; exit 7"]).output()?;
    ensure!(ran.stdout == b"out\n" && ran.status.code() == Some(7), "{ran:?}");
    let metrics =
        lab.kubectl.run(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/metrics/resource")])?;
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
    let addresses = lab.kubectl.field("node", NODE, ".status.addresses[*].address")?;
    ensure!(addresses == "localhost localhost", "{addresses}");
    wait::for_true("logs", PATIENCE, || {
        Ok(lab.kubectl.run(&["logs", "shell"]).is_ok_and(|log| log == "started\n"))
    })?;
    let summary = lab.kubectl.run(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/stats/summary")])?;
    ensure!(summary.contains(NODE), "{summary}");
    Ok(())
}
