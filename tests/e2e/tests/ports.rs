//! Ports of pods and of the node: over HTTP, HTTPS and WebSockets, by an API server that proxies to them and by
//! `nodes/NAME/proxy` of one that cannot.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use e2e::peer;
use e2e::web::{Web, echoed};
use harness::kubectl::Kubectl;
use harness::pair::Pair;
use harness::programs::Programs;
use harness::site::{IMAGE, NODE, Site};
use harness::wait::PATIENCE;
use harness::{given, wait};
use http::{HeaderMap, HeaderValue};
use serde_json::json;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ALL: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// The port of the pod.
const SECURE: u16 = 8443;
const KEY: &str = "modules.edged.nodeAPI.forwardedPorts";

/// Servers of the node, and the one behind the pod's port.
struct Servers {
    plain: Web,
    secure: Web,
    closed: Web,
    of_pod: Web,
}

impl Servers {
    fn start() -> Result<Servers> {
        Ok(Servers {
            plain: Web::http(LOOPBACK)?,
            secure: Web::https(LOOPBACK)?,
            closed: Web::http(LOOPBACK)?,
            of_pod: Web::https(ALL)?,
        })
    }

    /// Forwards all but one of those of the node.
    fn policy(&self) -> String {
        format!("{KEY}={{{},{}-{}}}", self.plain.port, self.secure.port, self.secure.port)
    }

    /// A pod at whose port HTTPS is spoken, and a service before it.
    fn pod(&self, kubectl: &Kubectl) -> Result<()> {
        let script = format!("exec nc -ll -p {SECURE} -e nc ${{POD_IP%.*}}.1 {}", self.of_pod.port);
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"nodeName": NODE, "terminationGracePeriodSeconds": 0, "containers": [{
                "name": "c", "image": IMAGE, "command": ["sh", "-c", script],
                "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}]}});
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"},
            "spec": {"selector": {"app": "web"},
                "ports": [{"name": "secure", "port": 443, "targetPort": SECURE}]}});
        kubectl.apply(&pod.to_string())?;
        kubectl.apply(&service.to_string())?;
        wait::for_true("the pod runs", PATIENCE, || {
            Ok(kubectl.field("pod", "web", ".status.phase")? == "Running")
        })
    }

    /// Paths below `nodes/NODE/proxy`, for any API server.
    fn by_node_proxy(&self) -> Vec<String> {
        vec![
            format!("ports/{}", self.plain.port),
            format!("ports/https:{}", self.secure.port),
            format!("podPorts/default/web/https:{SECURE}"),
        ]
    }
}

/// `kubectl proxy`, which shows its certificate for clients that cannot.
struct Gate {
    child: Child,
    address: String,
}

impl Gate {
    fn open(kubectl: &Kubectl) -> Result<Gate> {
        let mut command = kubectl.command(&["proxy", "--port=0"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = child.stdout.take();
        let mut gate = Gate { child, address: String::new() };
        let mut said = String::new();
        BufReader::new(stdout.context("no output")?).read_line(&mut said)?;
        gate.address = said.trim().rsplit(' ').next().context("no address")?.to_owned();
        Ok(gate)
    }

    fn echoes(&self, path: &str) -> Result<()> {
        let url = format!("ws://{}{path}", self.address);
        // In upgrades kube-apiserver does not say which node it proxies to.
        let node = HeaderValue::from_str(&format!("/api/v1/nodes/{NODE}/proxy/"))?;
        let headers = HeaderMap::from_iter([("x-forwarded-uri".parse()?, node)]);
        let said = echoed(&url, &headers, "to and fro").with_context(|| path.to_owned())?;
        ensure!(said == "to and fro", "{path}: {said}");
        Ok(())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn raw(kubectl: &Kubectl, path: &str) -> Result<String> {
    kubectl.run(&["get", "--raw", path])
}

fn reaches(kubectl: &Kubectl, path: &str) -> Result<()> {
    let said = wait::until(path, PATIENCE, || Ok(raw(kubectl, &format!("{path}/a/b?c=d&e=f")).ok()))?;
    ensure!(said == "GET /a/b?c=d&e=f ", "{path}: {said:?}");
    Ok(())
}

/// The node says which key would open the port.
fn refused(kubectl: &Kubectl, path: &str) -> Result<()> {
    let refused = raw(kubectl, path).err().with_context(|| format!("{path} is reached"))?;
    let told = format!("{refused:#}");
    ensure!(told.contains(KEY) && told.contains("Forbidden"), "{path}: {told}");
    Ok(())
}

fn posted(kubectl: &Kubectl, folder: &std::path::Path, path: &str) -> Result<()> {
    let file = folder.join("body");
    std::fs::write(&file, "{}")?;
    let said = kubectl.run(&["create", "--raw", &format!("{path}/x"), "-f", &file.to_string_lossy()])?;
    ensure!(said == "POST /x {}", "{path}: {said:?}");
    Ok(())
}

#[test]
fn ports_of_pods_services_and_nodes_are_proxied_to_over_http_https_and_websockets() -> Result<()> {
    // A cluster's API server connects to pods and nodes itself.
    if e2e::skip::without_containers() || given::kubeconfig().is_some() {
        return Ok(());
    }
    let servers = Servers::start()?;
    let site = Site::start_with(&Programs::find()?, true, &[&servers.policy()], |_| {})?;
    site.node_ready()?;
    let kubectl = site.kubectl();
    servers.pod(&kubectl)?;
    let (nodes, namespace) = ("/api/v1/nodes", "/api/v1/namespaces/default");
    let mut ways = vec![
        format!("{nodes}/{NODE}:{}/proxy", servers.plain.port),
        format!("{nodes}/https:{NODE}:{}/proxy", servers.secure.port),
        format!("{namespace}/pods/https:web:{SECURE}/proxy"),
        format!("{namespace}/services/https:front:secure/proxy"),
        format!("{namespace}/services/https:front:/proxy"),
    ];
    ways.extend(servers.by_node_proxy().iter().map(|path| format!("{nodes}/{NODE}/proxy/{path}")));
    let gate = Gate::open(&kubectl)?;
    for way in &ways {
        reaches(&kubectl, way)?;
        posted(&kubectl, site.folder(), way)?;
        gate.echoes(&format!("{way}/echo"))?;
    }

    let closed = servers.closed.port;
    refused(&kubectl, &format!("{nodes}/{NODE}:{closed}/proxy/"))?;
    refused(&kubectl, &format!("{nodes}/{NODE}/proxy/ports/{closed}/"))?;
    let plain = raw(&kubectl, &format!("{nodes}/https:{NODE}:{}/proxy/", servers.plain.port));
    let plain = plain.err().context("a server without TLS is asked over HTTPS")?;
    ensure!(format!("{plain:#}").contains("TLS"), "{plain:#}");
    let missing = raw(&kubectl, &format!("{nodes}/other:{closed}/proxy/")).err().context("no such node")?;
    ensure!(format!("{missing:#}").contains("NotFound"), "{missing:#}");

    // The kubelet's port is the Node API, whatever the scheme.
    let port = kubectl.field("node", NODE, ".status.daemonEndpoints.kubeletEndpoint.Port")?;
    for name in [format!("{NODE}:{port}"), format!("https:{NODE}:{port}"), format!("http:{NODE}:")] {
        let healthy = raw(&kubectl, &format!("{nodes}/{name}/proxy/healthz"))?;
        ensure!(healthy == "ok", "{name}: {healthy}");
    }
    Ok(())
}

#[test]
fn a_clusters_api_server_reaches_ports_through_the_stream_server() -> Result<()> {
    through_the_stream_server(&[], false)
}

#[test]
fn and_those_of_an_edge_in_kubeedges_dialect_through_its_tunnel() -> Result<()> {
    through_the_stream_server(&["modules.edgeHub.dialect=kubeedge"], true)
}

fn through_the_stream_server(edge: &[&str], with_tunnel: bool) -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let servers = Servers::start()?;
    let policy = servers.policy();
    let settings = [edge, &[policy.as_str()]].concat();
    let pair = Pair::start(&Programs::find()?, &settings, with_tunnel)?;
    let kubectl = &pair.kubectl;
    servers.pod(kubectl)?;
    let gate = Gate::open(kubectl)?;
    for path in servers.by_node_proxy() {
        let way = format!("/api/v1/nodes/{NODE}/proxy/{path}");
        reaches(kubectl, &way)?;
        posted(kubectl, pair.folder(), &way)?;
        gate.echoes(&format!("{way}/echo"))?;
    }
    refused(kubectl, &format!("/api/v1/nodes/{NODE}/proxy/ports/{}/", servers.closed.port))?;
    if given::kubeconfig().is_none() {
        reaches(kubectl, &format!("/api/v1/nodes/https:{NODE}:{}/proxy", servers.secure.port))?;
        refused(kubectl, &format!("/api/v1/nodes/{NODE}:{}/proxy/", servers.closed.port))?;
        reaches(kubectl, &format!("/api/v1/namespaces/default/pods/https:web:{SECURE}/proxy"))?;
    }
    strangers(&pair, &servers)
}

/// Who may not proxy to nodes reaches no port.
fn strangers(pair: &Pair, servers: &Servers) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let token = pair.kubectl.run(&["create", "token", "default"])?;
    let bearer = format!("Bearer {}", token.trim());
    let node = format!("/api/v1/nodes/{NODE}/proxy/");
    let paths = [
        format!("/ports/{}/", servers.plain.port),
        format!("/podPorts/default/web/https:{SECURE}/"),
        format!("/nodeTcp/{}", servers.plain.port),
        format!("/podTcp/default/web/{SECURE}"),
    ];
    for path in paths {
        for (headers, expected) in [
            (vec![("X-Forwarded-Uri", node.as_str())], 401),
            (vec![("X-Forwarded-Uri", &node), ("Authorization", &bearer)], 403),
        ] {
            let tls = peer::tls(&pair.edge.root, false)?;
            let (status, body) =
                runtime.block_on(peer::get(tls, pair.ports[0], &path, &headers, Vec::new()))?;
            ensure!(status == expected, "{path}: {status} {}", String::from_utf8_lossy(&body));
        }
    }
    Ok(())
}
