//! The certificate of the Node API's port, which the node asks the cluster for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use harness::ports;
use harness::programs::Programs;
use harness::site::{IMAGE, NODE, Site};
use harness::wait;
use harness::wait::PATIENCE;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use pki::{Authority, Identity, NODES_GROUP, Profile, Usage, files, hosts_of};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The CA of the cluster, its administrator, and where the node serves.
struct Lab {
    site: Site,
    authority: Authority,
    administrator: Identity,
    /// The node's name and addresses, as its object has them.
    hosts: Vec<String>,
    port: u16,
    runtime: tokio::runtime::Runtime,
}

impl Lab {
    fn start(more: &[&str]) -> Result<Lab> {
        let port = ports::free()?;
        let kubelet = "modules.edged.tailoredKubeletConfig";
        let (bootstrap, port_setting) =
            (format!("{kubelet}.serverTLSBootstrap=true"), format!("{kubelet}.port={port}"));
        let settings = [&[bootstrap.as_str(), port_setting.as_str()], more].concat();
        let site = Site::start_with(&Programs::find()?, true, &settings, |_| {})?;
        site.node_ready()?;
        let path = ".status.addresses[?(@.type==\"InternalIP\")].address";
        let addresses = site.kubectl().field("node", NODE, path)?;
        let hosts: Vec<String> =
            [NODE].into_iter().chain(addresses.split_whitespace()).map(str::to_owned).collect();
        ensure!(hosts.len() > 1, "the node has no address");
        let pki = site.cloud.root.join("var/lib/causeway/apiserver/pki");
        let read = |name: &str| {
            files::read_identity(&pki.join(format!("{name}.crt")), &pki.join(format!("{name}.key")))
        };
        let (ca, administrator) = (read("ca")?, read("admin")?);
        let authority = Authority::from_der(ca.certificate(), &ca.key_sec1().context("a key")?)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Lab { site, authority, administrator, hosts, port, runtime })
    }

    /// What the port answers to the cluster's administrator, and the certificate it shows. The name that is checked is `host`.
    fn ask(&self, host: &str, path: &str) -> Result<(CertificateDer<'static>, String)> {
        self.runtime.block_on(async {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.authority.certificate().clone())?;
            let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(
                vec![self.administrator.certificate().clone()],
                self.administrator.private_key(),
            )?;
            let tcp = TcpStream::connect(("127.0.0.1", self.port)).await?;
            let name = ServerName::try_from(host.to_owned())?;
            let tls = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await?;
            let shown = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let shown = shown.context("no certificate")?.clone().into_owned();
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
            let connection = tokio::spawn(connection);
            let request = http::Request::get(path).header("Host", host).body(Empty::<Bytes>::new())?;
            let body = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
            connection.abort();
            Ok((shown, String::from_utf8_lossy(&body).into_owned()))
        })
    }

    fn files(&self) -> [PathBuf; 2] {
        let folder = self.site.edge.root.join("var/lib/kubelet/pki");
        ["kubelet-server.crt", "kubelet-server.key"].map(|name| folder.join(name))
    }

    /// Gives the stopped edge a certificate of the cluster's CA that ends in `seconds`.
    fn plant(&self, seconds: i64) -> Result<Identity> {
        let profile = Profile {
            common_name: format!("system:node:{NODE}"),
            organizations: vec![NODES_GROUP.to_owned()],
            names: self.hosts.clone(),
            usage: Usage::Server,
            lifetime: 30 * pki::DAY,
        };
        let issued = daemon::clock::unix_seconds() + seconds - profile.lifetime;
        let identity = self.authority.issue(&profile, issued)?;
        let [certificate, key] = self.files();
        files::write_identity(&certificate, &key, &identity)?;
        Ok(identity)
    }
}

fn mode(path: &Path) -> Result<u32> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o777)
}

#[test]
fn the_node_serves_logs_with_a_certificate_of_the_cluster_that_it_asked_for_and_renews() -> Result<()> {
    if e2e::skip::without_containers() || e2e::skip::beside_a_cluster("the key of the CA") {
        return Ok(());
    }
    let lab = Lab::start(&[])?;
    let kubectl = lab.site.kubectl();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "says"},
        "spec": {"nodeName": NODE, "terminationGracePeriodSeconds": 0, "containers": [
            {"name": "c", "image": IMAGE, "command": ["sh", "-c", "echo started; sleep 1000000"]}]}});
    kubectl.apply(&pod.to_string())?;
    let serves =
        wait::for_true("the port shows a certificate", PATIENCE, || Ok(lab.ask(NODE, "/healthz").is_ok()));
    serves.with_context(|| std::fs::read_to_string(lab.site.edge.log()).unwrap_or_default())?;
    let (first, healthy) = lab.ask(NODE, "/healthz")?;
    ensure!(healthy == "ok", "{healthy}");
    ensure!(hosts_of(&first)? == lab.hosts, "{:?}", hosts_of(&first)?);
    ensure!(pki::Subject::of(&first)?.common_name == format!("system:node:{NODE}"));
    ensure!(mode(&lab.files()[1])? == 0o600);
    wait::for_true("the pod runs", PATIENCE, || {
        Ok(kubectl.field("pod", "says", ".status.phase")? == "Running")
    })?;
    wait::for_true("its log is served under the node's address", PATIENCE, || {
        Ok(lab.ask(&lab.hosts[1], "/containerLogs/default/says/c")?.1 == "started\n")
    })?;

    // Near its end, it is shown until the next one is there.
    lab.site.edge.kill9()?;
    let planted = lab.plant(3600)?;
    lab.site.edge.start()?;
    wait::for_true("another certificate", PATIENCE, || {
        Ok(lab.ask(NODE, "/healthz").is_ok_and(|(shown, _)| shown != *planted.certificate()))
    })?;
    let (renewed, _) = lab.ask(NODE, "/healthz")?;
    ensure!(renewed != first);
    let requests = kubectl.run(&["get", "csr", "-o", "jsonpath={.items[*].spec.signerName}"])?;
    ensure!(requests.split_whitespace().count() == 2, "{requests}");
    let log = std::fs::read_to_string(lab.site.edge.log())?;
    ensure!(!log.contains("panicked"), "{log}");
    Ok(())
}

#[test]
fn a_node_in_kubeedges_dialect_gets_its_certificate_by_kubeedges_messages() -> Result<()> {
    if e2e::skip::without_containers() || e2e::skip::beside_a_cluster("the key of the CA") {
        return Ok(());
    }
    let lab = Lab::start(&["modules.edgeHub.dialect=kubeedge"])?;
    let serves =
        wait::for_true("the port shows a certificate", PATIENCE, || Ok(lab.ask(NODE, "/healthz").is_ok()));
    serves.with_context(|| std::fs::read_to_string(lab.site.edge.log()).unwrap_or_default())?;
    let (shown, healthy) = lab.ask(&lab.hosts[1], "/healthz")?;
    ensure!(healthy == "ok" && hosts_of(&shown)? == lab.hosts, "{healthy} {:?}", hosts_of(&shown)?);
    Ok(())
}
