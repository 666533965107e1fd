//! CloudCore as its Deployment runs it, behind a [`Judge`]: a user without rights, a root file system that takes no writes, the token
//! of a service account, and what its roles give it. One lab for all that CloudCore does, part by part, so that at the end the judge
//! knows which rights were needed.

mod devices;
mod joins;
mod one_for_all;
mod pods;
mod records;
mod setting;
mod streams;
mod volumes;

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::cgroups::Cgroups;
use harness::containerd::Containerd;
use harness::edge::{Doors, Edge};
use harness::kubectl::Kubectl;
use harness::process::Process;
use harness::programs::Programs;
use harness::replica::ApiServer;
use harness::site::{IMAGE, NODE};
use harness::wait::PATIENCE;
use harness::{images, ports, wait};
use serde_json::json;
use tempfile::TempDir;

use crate::judge::Judge;

/// A node in KubeEdge's dialect, which runs no pods.
const PLAIN: &str = "edge-2";

/// Parts stop in the order of the fields.
pub struct Lab {
    edges: Vec<Edge>,
    mapper: Option<Process>,
    pub cloudcore: Process,
    pub judge: Judge,
    kubectl: Kubectl,
    doors: Doors,
    streams: u16,
    programs: Programs,
    api: ApiServer,
    _containerd: Containerd,
    _cgroups: Cgroups,
    runtime: tokio::runtime::Runtime,
    scratch: TempDir,
}

impl Lab {
    /// CloudCore, started after what earlier ones left behind, and two nodes: [`NODE`] with pods, and one in KubeEdge's dialect.
    ///
    /// # Errors
    /// Something does not start.
    pub fn start() -> Result<Lab> {
        let (programs, scratch) = (Programs::find()?, tempfile::tempdir()?);
        let folder = |name: &str| scratch.path().join(name);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let containerd = runtime.block_on(Containerd::start(&folder("cri"), true))?;
        runtime.block_on(containerd.import(&images::busybox(IMAGE)))?;
        let ca = folder("edges-ca.crt");
        // CloudCore runs here without its pod, which a controller would miss behind the Service.
        let controllers = "--controllers=*,-endpoints-controller,-endpointslice-controller";
        let kubelets = ["--kubelet-certificate-authority", &ca.to_string_lossy(), controllers];
        let api = ApiServer::start_with(&programs, &folder("api"), &kubelets)?;
        let kubectl = Kubectl::new(&api.kubeconfig);
        for text in setting::installed() {
            kubectl.apply(&text)?;
        }
        kubectl.create(&devices::many())?;
        kubectl.create(&one_for_all::left_behind())?;
        let judge = Judge::start(&api.kubeconfig, &folder("account"))?;
        let config = folder("cloudcore.yaml");
        let [link, certificates, streams, webhooks] = setting::configuration(&config)?;
        kubectl.apply(&setting::endpoints_of_webhooks(webhooks))?;
        let port = json!([{"op": "replace", "path": "/spec/ports/0/port", "value": webhooks}]).to_string();
        kubectl.run(&[
            "patch",
            "service",
            "cloudcore-webhooks",
            "-n",
            "kubeedge",
            "--type=json",
            "-p",
            &port,
        ])?;
        let log = folder("cloudcore.log");
        let command = setting::as_a_pod(&judge, &config, &programs);
        let mut cloudcore = Process::start(command, "cloudcore", &log)?;
        let serves = until(&judge, "CloudCore serves edges", || {
            cloudcore.check()?;
            Ok(TcpStream::connect(("127.0.0.1", link)).is_ok())
        });
        serves.with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        std::fs::write(&ca, setting::edges_ca(&kubectl)?)?;
        let kubeconfig = api.kubeconfig.to_string_lossy().into_owned();
        let token = programs.keadm(&["gettoken", "--kube-config", &kubeconfig])?.trim().to_owned();
        let link = SocketAddr::from(([127, 0, 0, 1], link));
        let doors = Doors { link, cert_port: certificates, quic_port: 0, token };
        let socket = containerd.socket();
        let socket = Path::new(socket.trim_start_matches("unix://"));
        // It asks for the certificate that it serves with.
        let kubelet = "modules.edged.tailoredKubeletConfig";
        let serving =
            [format!("{kubelet}.serverTLSBootstrap=true"), format!("{kubelet}.port={}", ports::free()?)];
        let serving = serving.each_ref().map(String::as_str);
        let (edge, keadm) = Edge::to_join(&programs, &doors, NODE, &folder(NODE), Some(socket), &serving)?;
        let edge = join(&judge, edge, keadm)?;
        let cgroups = Cgroups(edge.cgroup());
        let kubeedge = ["modules.edgeHub.dialect=kubeedge"];
        let (plain, keadm) = Edge::to_join(&programs, &doors, PLAIN, &folder(PLAIN), None, &kubeedge)?;
        let plain = join(&judge, plain, keadm)?;
        Ok(Lab {
            edges: vec![edge, plain],
            mapper: None,
            cloudcore,
            judge,
            kubectl,
            doors,
            streams,
            programs,
            api,
            _containerd: containerd,
            _cgroups: cgroups,
            runtime,
            scratch,
        })
    }

    /// All that CloudCore does, to its end.
    ///
    /// # Errors
    /// It does not do something, or was refused what it asked for.
    pub fn work(&mut self) -> Result<()> {
        self.pods().context("pods")?;
        self.volumes().context("volumes")?;
        self.streams().context("streams")?;
        self.devices().context("devices")?;
        self.records().context("records")?;
        self.joins().context("joins")?;
        self.one_for_all().context("what one replica does for all")
    }

    fn until(&self, what: &str, probe: impl FnMut() -> Result<bool>) -> Result<()> {
        until(&self.judge, what, probe)
    }

    fn waits(
        &self,
        what: &str,
        kind: &str,
        name: &str,
        path: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<()> {
        self.until(what, || Ok(self.kubectl.field(kind, name, path).is_ok_and(|value| wanted(&value))))
    }
}

/// Waits for a condition. A refusal ends it at once: nothing more is to be learned by waiting.
fn until(judge: &Judge, what: &str, mut probe: impl FnMut() -> Result<bool>) -> Result<()> {
    wait::until(what, PATIENCE, || match unrefused(judge) {
        Err(refused) => Ok(Some(Err(refused.context(format!("waiting for this: {what}"))))),
        Ok(()) => Ok(probe()?.then_some(Ok(()))),
    })?
}

fn unrefused(judge: &Judge) -> Result<()> {
    let refused = judge.refused();
    ensure!(refused.is_empty(), "no role gives CloudCore {refused:?}");
    Ok(())
}

/// Joins a node. keadm would wait for minutes if CloudCore may not let it in.
fn join(judge: &Judge, edge: Edge, keadm: Command) -> Result<Edge> {
    let log = edge.root.with_extension("keadm.log");
    let mut keadm = Process::start(keadm, "keadm", &log)?;
    until(judge, &format!("keadm join of {}", edge.node), || Ok(keadm.ended()?.is_some()))?;
    let is_joined = keadm.ended()?.is_some_and(|status| status.success());
    ensure!(is_joined, "{}", std::fs::read_to_string(&log)?);
    Ok(edge)
}
