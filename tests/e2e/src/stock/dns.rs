//! A CoreDNS that answers for the cluster's names, as pods of a node ask it.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::kubectl::Kubectl;
use harness::ports;
use harness::process::Process;
use serde_json::json;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, Question, TYPE};

use super::{Client, Hub};

const ACCOUNT: &str = "causeway-coredns";
/// Where a program in a pod finds its token (client-go's `rest.InClusterConfig`).
const IN_POD: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How it is told of MetaServer.
#[derive(Clone, Copy, Debug)]
pub enum Told {
    /// As a pod is: by its environment and the files of its account.
    AsPod,
    ByKubeconfig,
}

/// A CoreDNS that takes MetaServer for its API server, at the address for pods; stopped when dropped.
pub struct CoreDns {
    binary: PathBuf,
    folder: PathBuf,
    client: Client,
    port: u16,
    process: Option<Process>,
}

/// What a name leads to: addresses, or `PORT TARGET`.
pub type Answer = BTreeSet<String>;

impl CoreDns {
    /// Starts it below `folder`, on a loopback port, with a token of an account with the rights that CoreDNS asks for. `trust` is the
    /// kubeconfig of MetaServer.
    pub fn start(
        (binary, folder): (&Path, &Path),
        (hub, trust): (Hub, &Path),
        administrator: &Kubectl,
        told: Told,
    ) -> Result<CoreDns> {
        std::fs::create_dir_all(folder)?;
        let rule = |group: &str, resources: &[&str]| json!({ "apiGroups": [group], "resources": resources, "verbs": ["list", "watch"] });
        let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": ACCOUNT },
            "rules": [rule("", &["endpoints", "services", "pods", "namespaces"]), rule("discovery.k8s.io", &["endpointslices"])] });
        administrator.apply(&role.to_string())?;
        let client = Client::make(hub, trust, administrator, (ACCOUNT, ACCOUNT))?;
        std::fs::write(folder.join("kubeconfig"), client.kubeconfig().to_string())?;
        std::fs::write(folder.join("token"), &client.token)?;
        std::fs::write(folder.join("ca.crt"), client.ca()?)?;
        let port = ports::free()?;
        let mut dns =
            CoreDns { binary: binary.to_owned(), folder: folder.to_owned(), client, port, process: None };
        dns.again(told)?;
        Ok(dns)
    }

    /// Starts it again after [`CoreDns::kill9`].
    pub fn again(&mut self, told: Told) -> Result<()> {
        let of_file = match told {
            Told::AsPod => String::new(),
            Told::ByKubeconfig => format!("kubeconfig {}", self.folder.join("kubeconfig").display()),
        };
        let file = self.folder.join("Corefile");
        let text = format!(
            ".:{} {{\n  bind 127.0.0.1\n  errors\n  log\n  kubernetes cluster.local {{\n    {of_file}\n  }}\n}}\n",
            self.port
        );
        std::fs::write(&file, text)?;
        // The files of a pod are at one place for every program, so this one has a `/run` of its own.
        let script = format!(
            "mount -t tmpfs none /run && mkdir -p {IN_POD} && cp {folder}/token {folder}/ca.crt {IN_POD} && exec {} -conf {}",
            self.binary.display(),
            file.display(),
            folder = self.folder.display(),
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]);
        command.env("KUBERNETES_SERVICE_HOST", self.client.server.0.to_string());
        command.env("KUBERNETES_SERVICE_PORT", self.client.server.1.to_string());
        self.process = Some(Process::start(command, "coredns", &self.log())?);
        Ok(())
    }

    /// Ends it like a crash.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.take().context("no CoreDNS runs")?.kill9()
    }

    /// Errors if it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.process.as_mut().context("no CoreDNS runs")?.check()
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join("coredns.log")
    }

    /// What it answers now; nothing where there is no such name.
    ///
    /// # Errors
    /// It does not answer, or not with addresses of IPv4 and services.
    pub fn ask(&self, kind: TYPE, name: &str) -> Result<Answer> {
        let mut query = Packet::new_query(1);
        let question = Question::new(Name::new(name)?, kind.into(), CLASS::IN.into(), false);
        query.questions.push(question);
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.connect(("127.0.0.1", self.port))?;
        socket.send(&query.build_bytes_vec()?)?;
        let mut read = [0; 4096];
        let length = socket.recv(&mut read).with_context(|| format!("no answer for {name}"))?;
        let answer = Packet::parse(&read[..length])?;
        ensure!(answer.id() == 1, "an answer to something else");
        let told = answer.answers.iter().map(|record| match &record.rdata {
            RData::A(a) => Ok(Ipv4Addr::from(a.address).to_string()),
            RData::SRV(srv) => Ok(format!("{} {}", srv.port, srv.target)),
            other => anyhow::bail!("an answer of another kind: {other:?}"),
        });
        told.collect()
    }
}
