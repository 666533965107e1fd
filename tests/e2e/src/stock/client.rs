//! A program of the node that is no kubelet: an account in the cloud, whose token it shows to MetaServer.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::kubectl::Kubectl;
use serde_json::{Value, json};

use super::Hub;

/// What such a program is told of MetaServer.
pub struct Client {
    /// MetaServer's address and port for pods.
    pub server: (Ipv4Addr, u16),
    /// In base64.
    ca: String,
    pub token: String,
}

impl Client {
    /// Has the administrator of the cloud make the account `name` in `kube-system`, with a cluster role. `trust` is the kubeconfig of
    /// MetaServer.
    pub fn make(
        hub: Hub,
        trust: &Path,
        administrator: &Kubectl,
        (name, role): (&str, &str),
    ) -> Result<Client> {
        let of = |kind: &str, name: &str| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name });
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": name, "namespace": "kube-system" } });
        let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": name }, "roleRef": of("ClusterRole", role),
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": "kube-system" }] });
        administrator.apply(&account.to_string())?;
        administrator.apply(&binding.to_string())?;
        let token = administrator.run(&["-n", "kube-system", "create", "token", name, "--duration=2h"])?;
        let trust = std::fs::read_to_string(trust)?;
        let ca = trust.lines().find_map(|line| line.trim().strip_prefix("certificate-authority-data: "));
        let (ca, token) = (ca.context("a CA")?.to_owned(), token.trim().to_owned());
        Ok(Client { server: hub.dummy, ca, token })
    }

    pub fn kubeconfig(&self) -> Value {
        let server = format!("https://{}:{}", self.server.0, self.server.1);
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": server, "certificate-authority-data": self.ca } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
            "users": [{ "name": "u", "user": { "token": self.token } }],
        })
    }

    /// The CA of MetaServer, in PEM.
    pub fn ca(&self) -> Result<Vec<u8>> {
        Ok(STANDARD.decode(&self.ca)?)
    }
}
