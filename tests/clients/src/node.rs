//! A node with MetaServer, and clients that use it as their API server.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use harness::ports;
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
        let server = ports::free()?;
        let module = "modules.metaManager.metaServer";
        let settings = [
            format!("{module}.enable=true"),
            format!("{module}.server=127.0.0.1:{server}"),
            format!("{module}.dummyServer=127.0.0.2:{}", ports::free()?),
        ];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let site = Site::start_with(programs, false, &settings, |_| {})?;
        site.kubectl().apply(ACCOUNT)?;
        let own = site.edge.root.join("var/lib/kubeedge/metaserver/kubeconfig");
        wait::for_true("the node's own API", PATIENCE, || Ok(own.exists()))?;
        let token = site.kubectl().run(&["create", "token", "clients", "--duration=2h"])?;
        let own = std::fs::read_to_string(own)?;
        let ca = own.lines().find(|line| line.trim().starts_with("certificate-authority")).context("a CA")?;
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: c\n  cluster:\n    server: https://127.0.0.1:{server}\n    {}\n\
             contexts:\n- name: c\n  context: {{cluster: c, user: u}}\nusers:\n- name: u\n  user: {{token: {}}}\n",
            ca.trim(),
            token.trim()
        );
        let kubeconfig = site.edge.root.join("clients.kubeconfig");
        std::fs::write(&kubeconfig, text)?;
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
