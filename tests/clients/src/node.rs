//! A node with MetaServer, and clients that use it as their API server.

use std::path::{Path, PathBuf};

use anyhow::Result;
use harness::metaserver::MetaServer;
use harness::programs::Programs;
use harness::site::Site;
use harness::wait::{self, PATIENCE};

use crate::informers::Ground;

/// An account that may do everything: what is tried is MetaServer, not rights.
const ACCOUNT: &str = "\
apiVersion: v1
kind: ServiceAccount
metadata: {name: clients, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: clients}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: clients, namespace: default}]
";

/// A cloud, and a node without containers; interruptions cut the link between the two.
pub struct Node {
    site: Site,
    administrator: PathBuf,
    kubeconfig: PathBuf,
}

impl Node {
    /// # Errors
    /// A program does not serve.
    pub fn start(programs: &Programs) -> Result<Node> {
        let server = MetaServer::new()?;
        let settings = server.settings();
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let site = Site::start_with(programs, false, &settings, |_| {})?;
        site.kubectl().apply(ACCOUNT)?;
        let kubeconfig = server.kubeconfig(&site.edge, &site.kubectl(), "clients")?;
        let kubectl = harness::kubectl::Kubectl::new(&kubeconfig);
        wait::for_true("the cloud's answer at the node", PATIENCE, || {
            Ok(kubectl.run(&["get", "namespaces", "-o", "name"]).is_ok())
        })?;
        Ok(Node { administrator: site.kubectl().kubeconfig.clone(), site, kubeconfig })
    }
}

impl Ground for Node {
    fn administrator(&self) -> &Path {
        &self.administrator
    }

    fn clients(&self) -> &Path {
        &self.kubeconfig
    }

    fn interrupt(&mut self, _: usize) -> Result<bool> {
        self.site.relay.cut();
        Ok(true)
    }

    fn resume(&mut self, _: usize) -> Result<()> {
        self.site.relay.heal();
        Ok(())
    }
}
