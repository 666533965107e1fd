//! What one replica does for all: it renews what the edges trust, looks for leases that nobody renews, removes what is of no use any
//! more, and takes itself from the list of replicas when it ends.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Lab;

/// The record of a token that ended long ago.
const RECORD: &str = "used-token-of-long-ago";

/// What an earlier CloudCore has left behind.
pub(super) fn left_behind() -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": RECORD, "namespace": "kubeedge", "labels": {"causeway.io/used-token": "true"}},
        "data": {"node": "edge-9", "request": "r", "expires": "1000"}})
    .to_string()
}

impl Lab {
    pub(super) fn one_for_all(&mut self) -> Result<()> {
        self.until("the record of a token that has ended goes", || {
            let maps = self.kubectl.run(&["get", "configmaps", "-n", "kubeedge", "-o", "name"])?;
            Ok(!maps.contains(RECORD))
        })?;
        self.certificate_authority()?;
        // Once a minute.
        let look = "list coordination.k8s.io/leases in kube-node-lease";
        self.until("all leases of nodes are looked at", || Ok(self.judge.has_given(look)))?;
        ensure!(self.replicas()? == 1, "this replica is on the list");
        self.cloudcore.check()?;
        self.cloudcore.stop()?;
        ensure!(self.replicas()? == 0, "it has ended and is on the list still");
        Ok(())
    }

    /// Another CA signs: the certificate that CloudCore shows and the token for new nodes are of that one.
    fn certificate_authority(&self) -> Result<()> {
        let kubeconfig = self.api.kubeconfig.to_string_lossy().into_owned();
        let signs = || -> Result<String> {
            let shown = self.programs.keadm(&["ca", "show", "--kube-config", &kubeconfig])?;
            let line = shown.lines().find_map(|line| line.strip_suffix(" signs"));
            Ok(line.context("a CA that signs")?.to_owned())
        };
        let before = signs()?;
        self.programs.keadm(&["ca", "rotate", "--overlap", "0s", "--kube-config", &kubeconfig])?;
        self.until("the next CA signs", || Ok(signs()? != before))?;
        let now = signs()?;
        let secret = |name: &str, path: &str| -> Result<String> {
            self.kubectl.run(&[
                "get",
                "secret",
                name,
                "-n",
                "kubeedge",
                "-o",
                &format!("jsonpath={{{path}}}"),
            ])
        };
        self.until("CloudCore's certificate is of the next CA", || {
            let issued_for = secret("cloudcoresecret", r".metadata.annotations.causeway\.io/issued-for")?;
            Ok(issued_for.starts_with(&now))
        })?;
        self.until("the join token is of the next CA", || {
            let token = self.programs.keadm(&["gettoken", "--kube-config", &kubeconfig])?;
            Ok(token.starts_with(&now))
        })
    }

    /// CloudCores that say that they are there.
    fn replicas(&self) -> Result<usize> {
        let leases = self.kubectl.run(&["get", "leases", "-n", "kubeedge", "-o", "name"])?;
        Ok(leases.lines().filter(|name| name.contains("/causeway-streams-")).count())
    }
}
