//! Tokens that are good once, a name that is taken, a node that is put out.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::edge::{Doors, Edge};
use harness::site::NODE;
use serde_json::{Value, json};

use super::{Lab, PLAIN};

/// A request for a certificate that the node serves with.
fn signing_request() -> Result<Value> {
    let mut params = rcgen::CertificateParams::new(vec![NODE.to_owned()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("system:node:{NODE}"));
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    let pem = params.serialize_request(&rcgen::KeyPair::generate()?)?.pem()?;
    Ok(json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": "own"}, "spec": {"signerName": "kubernetes.io/kubelet-serving",
        "usages": ["digital signature", "server auth"], "request": STANDARD.encode(pem)}}))
}

impl Lab {
    pub(super) fn joins(&self) -> Result<()> {
        let kubeconfig = self.api.kubeconfig.to_string_lossy().into_owned();
        let once = ["gettoken", "--single-use", "--kube-config", &kubeconfig];
        let token = || Ok::<_, anyhow::Error>(self.programs.keadm(&once)?.trim().to_owned());
        let join = |name: &str, folder: &str, token: String| {
            let doors = Doors { token, ..self.doors() };
            let root = self.scratch.path().join(folder);
            let (edge, keadm) = Edge::to_join(&self.programs, &doors, name, &root, None, &[])?;
            super::join(&self.judge, edge, keadm)
        };
        let once = join("edge-3", "once", token()?)?;
        let used = || {
            let maps = self.kubectl.run(&["get", "configmaps", "-n", "kubeedge", "-o", "name"])?;
            Ok(maps.contains("configmap/used-token-"))
        };
        self.until("the use of the token is written down", used)?;
        drop(once);
        let existing = ["gettoken", "--existing-nodes", "--kube-config", &kubeconfig];
        let existing = self.programs.keadm(&existing)?.trim().to_owned();
        let told =
            join(NODE, "twice", existing).err().context("the name of a connected node was given away")?;
        let told = format!("{told:#}");
        ensure!(told.contains("is connected from another machine"), "{told}");
        // CloudCore makes requests for its nodes.
        self.kubectl.create_as(crate::judge::ACCOUNT, &signing_request()?.to_string())?;
        let approved = ".status.conditions[?(@.type==\"Approved\")].status";
        self.waits("the node's certificate is approved", "csr", "own", approved, |value| value == "True")?;
        for node in [PLAIN, "edge-4"] {
            if node != PLAIN {
                self.kubectl.create(
                    &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}).to_string(),
                )?;
            }
            self.kubectl.run(&["delete", "node", node])?;
            let path = format!(".data.{node}");
            self.until("the deleted node is on the list", || {
                let list = [
                    "get",
                    "configmap",
                    "refused-nodes",
                    "-n",
                    "kubeedge",
                    "-o",
                    &format!("jsonpath={{{path}}}"),
                ];
                Ok(self.kubectl.run(&list).is_ok_and(|entry| !entry.is_empty()))
            })?;
        }
        self.until("records of the deleted node go", || {
            let records = self.kubectl.run(&["get", "objectsyncs,clusterobjectsyncs", "-o", "name"])?;
            Ok(!records.contains(PLAIN))
        })
    }

    fn doors(&self) -> Doors {
        let Doors { link, cert_port, quic_port, token } = &self.doors;
        Doors { link: *link, cert_port: *cert_port, quic_port: *quic_port, token: token.clone() }
    }
}
