//! A kube-proxy in a network namespace.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use harness::kubectl::Kubectl;
use harness::process::Process;
use serde_json::json;

use super::{Client, Hub, Network};

const ACCOUNT: (&str, &str) = ("causeway-kube-proxy", "system:node-proxier");

/// A kube-proxy (nftables) that takes MetaServer for its API server, at the address for pods; stopped when dropped.
pub struct KubeProxy<'a> {
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    network: &'a Network,
    process: Option<Process>,
}

/// Where rules send traffic to: `SERVICE ADDRESS`.
pub type Rules = BTreeSet<String>;

impl KubeProxy<'_> {
    /// Starts it below `folder` for `node`, with a token of an account with the role `system:node-proxier` that the administrator of
    /// the cloud makes. `trust` is the kubeconfig of MetaServer.
    pub fn start<'a>(
        (binary, folder): (&Path, &Path),
        node: &str,
        (hub, trust): (Hub, &Path),
        administrator: &Kubectl,
        network: &'a Network,
    ) -> Result<KubeProxy<'a>> {
        std::fs::create_dir_all(folder)?;
        let kubeconfig = Client::make(hub, trust, administrator, ACCOUNT)?.kubeconfig();
        let path = folder.join("kubeconfig");
        std::fs::write(&path, kubeconfig.to_string())?;
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "nftables",
            "clientConnection": { "kubeconfig": path }, "hostnameOverride": node,
            // Limits of the whole machine, which it would set.
            "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
        });
        let path = folder.join("config.yaml");
        std::fs::write(&path, config.to_string())?;
        let log = folder.join("kube-proxy.log");
        let mut proxy = KubeProxy { binary: binary.to_owned(), config: path, log, network, process: None };
        proxy.again()?;
        Ok(proxy)
    }

    /// Starts it again after [`KubeProxy::kill9`].
    pub fn again(&mut self) -> Result<()> {
        let mut command = self.network.command(&self.binary.to_string_lossy());
        command.arg("--config").arg(&self.config).args(["--v", "2"]);
        self.process = Some(Process::start(command, "kube-proxy", &self.log)?);
        Ok(())
    }

    /// Ends it like a crash, and takes its rules away, as a boot does.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.take().context("no kube-proxy runs")?.kill9()?;
        self.network.run("nft", &["flush", "ruleset"]).map(drop)
    }

    /// Errors if it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.process.as_mut().context("no kube-proxy runs")?.check()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Where traffic for Services of `namespace` goes now: each Service has a chain `service-HASH-NAMESPACE/NAME/PROTOCOL/PORT` with
    /// the addresses of its endpoints (`pkg/proxy/nftables/proxier.go`).
    pub fn rules(&self, namespace: &str) -> Result<Rules> {
        let table = self.network.run("nft", &["list", "ruleset", "ip"])?;
        let mut rules = Rules::new();
        let mut service = None;
        for line in table.lines().map(str::trim) {
            if let Some(chain) = line.strip_prefix("chain ") {
                service = service_of(chain, namespace);
            }
            let Some(service) = service else { continue };
            let addresses = line.split_whitespace().filter(|word| word.parse::<Ipv4Addr>().is_ok());
            rules.extend(addresses.map(|address| format!("{service} {address}")));
        }
        Ok(rules)
    }
}

fn service_of<'a>(chain: &'a str, namespace: &str) -> Option<&'a str> {
    let (_, path) = chain.strip_prefix("service-")?.split_once('-')?;
    let (space, rest) = path.split_once('/')?;
    rest.split('/').next().filter(|_| space == namespace)
}
