//! Two CloudCores with stream servers beside an API server that knows of them what its node objects say, and a node with
//! containers behind a balancer.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use base64::Engine as _;

use crate::balancer::Balancer;
use crate::containerd::Containerd;
use crate::edge::{Doors, Edge};
use crate::kubectl::Kubectl;
use crate::programs::Programs;
use crate::replica::{ApiServer, Replica};
use crate::site::{IMAGE, NODE};
use crate::wait::PATIENCE;
use crate::{given, images, ports, wait};

const CA: &str = "edges-ca.crt";

/// Parts stop in the order of the fields.
pub struct Pair {
    pub edge: Edge,
    pub replicas: Vec<Replica>,
    /// Of the replicas' stream servers.
    pub ports: Vec<u16>,
    pub kubectl: Kubectl,
    pub api: ApiServer,
    _balancers: Vec<Balancer>,
    _containerd: Containerd,
    _runtime: tokio::runtime::Runtime,
    scratch: tempfile::TempDir,
}

impl Pair {
    /// `edge` are settings of the node. Not for use inside of a runtime.
    pub fn start(programs: &Programs, edge: &[&str], with_tunnel: bool) -> Result<Pair> {
        Pair::start_at(programs, edge, with_tunnel, &given::address().to_string())
    }

    /// Like [`Pair::start`], with the address that is written into node objects.
    pub fn start_at(
        programs: &Programs,
        edge: &[&str],
        with_tunnel: bool,
        node_address: &str,
    ) -> Result<Pair> {
        let scratch = tempfile::tempdir()?;
        let folder = |name: &str| scratch.path().join(name);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let containerd = runtime.block_on(Containerd::start(&folder("cri"), true))?;
        runtime.block_on(containerd.import(&images::busybox(IMAGE)))?;
        let ca = folder(CA);
        let kubelet_ca = ca.to_string_lossy().into_owned();
        let trusting = ["--kubelet-certificate-authority", kubelet_ca.as_str()];
        given::forget(NODE)?;
        let api = ApiServer::given_or_start(programs, &folder("api"), &trusting)?;
        let (mut replicas, mut ports, mut tunnels) = (Vec::new(), Vec::new(), Vec::new());
        for name in ["a", "b"] {
            let (stream, tunnel) = (ports::free()?, ports::free()?);
            let settings = given::stream_server(stream, tunnel, node_address);
            let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
            replicas.push(Replica::prepare_with(programs, &folder(name), &api.kubeconfig, &settings)?);
            ports.push(stream);
            tunnels.push(tunnel);
        }
        for replica in &replicas {
            replica.program.start()?;
            replica.wait_ready()?;
        }
        let kubectl = Kubectl::new(&api.kubeconfig);
        std::fs::write(&ca, edges_ca(&kubectl)?)?;
        let all =
            |address: fn(&Replica) -> SocketAddr| Balancer::start(replicas.iter().map(address).collect());
        let balancers = vec![all(|replica| replica.edge)?, all(|replica| replica.certificates)?];
        let kubeconfig = api.kubeconfig.to_string_lossy().into_owned();
        let token = programs.keadm(&["gettoken", "--kube-config", &kubeconfig])?.trim().to_owned();
        let [link, certificates] = [balancers[0].address(), balancers[1].address()];
        let doors = Doors { link, cert_port: certificates.port(), quic_port: 0, token };
        let socket = containerd.socket();
        let socket = Path::new(socket.trim_start_matches("unix://"));
        let server = format!("modules.edgeStream.server=127.0.0.1:{}", tunnels[0]);
        let mut settings = edge.to_vec();
        if with_tunnel {
            settings.extend(["modules.edgeStream.enable=true", &server]);
        }
        let edge = Edge::join_at(programs, &doors, NODE, &folder("edge"), Some(socket), &settings)?;
        wait::for_true("the node is there", PATIENCE, || Ok(kubectl.get("node", NODE).is_ok()))?;
        Ok(Pair {
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

    /// The CA of edges, by which stream servers are verified too.
    pub fn ca(&self) -> PathBuf {
        self.scratch.path().join(CA)
    }

    /// For files of who uses it.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// Certificate and key of the cluster's administrator, PEM, as the kubeconfig has them.
    pub fn administrator(&self) -> Result<[PathBuf; 2]> {
        let fields = ["client-certificate-data", "client-key-data"];
        let paths = fields.map(|field| self.scratch.path().join(field));
        for (field, path) in fields.iter().zip(&paths) {
            let data = format!("jsonpath={{.users[0].user.{field}}}");
            let text = self.kubectl.run(&["config", "view", "--raw", "-o", &data])?;
            std::fs::write(path, base64::engine::general_purpose::STANDARD.decode(text.trim())?)?;
        }
        Ok(paths)
    }
}

/// The CA of the edges and of CloudCore, PEM.
fn edges_ca(kubectl: &Kubectl) -> Result<String> {
    let data = ["get", "secret", "casecret", "-n", "kubeedge", "-o", "jsonpath={.data.cadata}"];
    let der = kubectl.run(&data)?;
    let lines: Vec<_> = der.trim().as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    Ok(format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n")))
}
