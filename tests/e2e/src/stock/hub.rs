//! EdgeCore in hub form.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use harness::kubectl::Kubectl;
use harness::ports;
use harness::programs;
use harness::site::Site;
use harness::wait::{self, PATIENCE};
use serde_json::{Value, json};

/// Where it listens.
#[derive(Clone, Copy, Debug)]
pub struct Hub {
    /// MetaServer on 127.0.0.1.
    pub server: u16,
    /// MetaServer for pods and for whatever has a network of its own.
    pub dummy: (Ipv4Addr, u16),
    /// The door without TLS, on 127.0.0.1.
    pub plain: u16,
    /// The port for probes, on 127.0.0.1.
    pub monitor: u16,
    /// Where the kubelet's API is to be, on 127.0.0.1.
    pub kubelet: u16,
}

impl Hub {
    /// Free ports; `dummy` is an address of this machine.
    pub fn new(dummy: Ipv4Addr) -> Result<Hub> {
        let (server, plain, monitor) = (ports::free()?, ports::free()?, ports::free()?);
        Ok(Hub { server, dummy: (dummy, ports::free()?), plain, monitor, kubelet: ports::free()? })
    }

    /// Settings of EdgeCore (`key.path=value`).
    pub fn settings(&self) -> Vec<String> {
        let module = "modules.metaManager.metaServer";
        vec![
            format!("{module}.hub.enable=true"),
            format!("{module}.hub.plainServer=127.0.0.1:{}", self.plain),
            format!("{module}.hub.kubelet=127.0.0.1:{}", self.kubelet),
            format!("{module}.server=127.0.0.1:{}", self.server),
            format!("{module}.dummyServer={}:{}", self.dummy.0, self.dummy.1),
            format!("commonConfig.monitorServer.bindAddress=127.0.0.1:{}", self.monitor),
        ]
    }

    /// The kubeconfig that EdgeCore writes: it shows the node's certificate.
    pub fn kubeconfig(site: &Site) -> Result<PathBuf> {
        let kubeconfig = site.edge.root.join("var/lib/kubeedge/metaserver/kubeconfig");
        wait::for_true("the hub", PATIENCE, || Ok(kubeconfig.exists()))?;
        Ok(kubeconfig)
    }
}

impl Hub {
    /// Patches a status as a kubelet does, through the door without TLS: kubectl would get the subresource first, which kube-apiserver
    /// refuses to nodes.
    pub fn patch_status(&self, path: &str, status: &Value) -> Result<()> {
        let url = format!("http://127.0.0.1:{}{path}/status", self.plain);
        let patch = json!({ "status": status }).to_string();
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail-with-body", "-m", "30", "-X", "PATCH", "-d", &patch]);
        command.args(["-H", "Content-Type: application/strategic-merge-patch+json", &url]);
        programs::run(command).map(drop)
    }
}

/// Waits until MetaServer knows that the link is cut. `node` asks it as the node.
pub fn wait_until_cut(node: &Kubectl) -> Result<()> {
    wait::for_true("the cut", PATIENCE, || {
        let told = node.run(&["create", "configmap", "never-made"]).err();
        Ok(told.is_some_and(|error| format!("{error:#}").contains("cut off")))
    })
}
