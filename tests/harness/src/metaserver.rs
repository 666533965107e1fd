//! MetaServer of a node, and clients that use it as their API server.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::edge::Edge;
use crate::kubectl::Kubectl;
use crate::ports;
use crate::wait::{self, PATIENCE};

/// Where it listens.
#[derive(Clone, Copy, Debug)]
pub struct MetaServer {
    pub port: u16,
    /// On 127.0.0.2, for pods.
    pub dummy: u16,
}

impl MetaServer {
    /// Free ports.
    pub fn new() -> Result<MetaServer> {
        Ok(MetaServer { port: ports::free()?, dummy: ports::free()? })
    }

    /// Settings of EdgeCore (`key.path=value`).
    pub fn settings(&self) -> Vec<String> {
        let module = "modules.metaManager.metaServer";
        vec![
            format!("{module}.enable=true"),
            format!("{module}.server=127.0.0.1:{}", self.port),
            format!("{module}.dummyServer=127.0.0.2:{}", self.dummy),
        ]
    }

    /// A kubeconfig of a service account, whose token the administrator of the cloud makes; written beside the node's files.
    pub fn kubeconfig(&self, edge: &Edge, administrator: &Kubectl, account: &str) -> Result<PathBuf> {
        let own = edge.root.join("var/lib/kubeedge/metaserver/kubeconfig");
        wait::for_true("the node's own API", PATIENCE, || Ok(own.exists()))?;
        let token = administrator.run(&["create", "token", account, "--duration=2h"])?;
        let own = std::fs::read_to_string(own)?;
        let ca = own.lines().find(|line| line.trim().starts_with("certificate-authority")).context("a CA")?;
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: c\n  cluster:\n    server: https://127.0.0.1:{}\n    {}\n\
             contexts:\n- name: c\n  context: {{cluster: c, user: u}}\nusers:\n- name: u\n  user: {{token: {}}}\n",
            self.port,
            ca.trim(),
            token.trim()
        );
        let path = edge.root.join(format!("{account}.kubeconfig"));
        std::fs::write(&path, text)?;
        Ok(path)
    }
}
