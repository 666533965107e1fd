//! What nodes may touch, asked by the hub for every message. Answers from the placement graph; a pod the graph does
//! not place on the node yet is looked up in the API server before it is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use message::{NodeName, ObjectKey, ObjectKind, Status};
use pki::{NODES_GROUP, SigningRequest, edge_common_name};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::Downstream;
use crate::devicecontroller::Devices;
use crate::kubernetes::Cluster;

/// Signer of certificates that nodes serve with.
pub const SERVING: &str = "kubernetes.io/kubelet-serving";

/// True for a CertificateSigningRequest by which `node` asks for a certificate to serve with, under its own name. It is
/// made with CloudCore's rights, and may be approved by nobody's eye.
pub fn is_for_own_name(object: &Value, node: &NodeName) -> bool {
    let request = object["spec"]["request"].as_str().and_then(|text| STANDARD.decode(text).ok());
    let der = request.and_then(|pem| CertificateSigningRequestDer::from_pem_slice(&pem).ok());
    let request = der
        .filter(|der| der.len() <= SigningRequest::MAX_BYTES)
        .and_then(|der| SigningRequest::from_der(&der).ok());
    object["spec"]["signerName"] == SERVING
        && request.is_some_and(|request| {
            request.common_name() == Some(edge_common_name(node.as_str()).as_str())
                && request.organization() == Some(NODES_GROUP)
                && !request.asks_for_other_than_hosts()
        })
}

#[derive(Clone)]
pub struct Rights {
    placement: Downstream,
    devices: Devices,
    cluster: Cluster,
}

enum Owner {
    Ours,
    Other,
    Nobody,
}

impl Rights {
    pub fn new(placement: Downstream, devices: Devices, cluster: Cluster) -> Rights {
        Rights { placement, devices, cluster }
    }

    /// True for a pod of this node, and for the one of that uid that went a moment ago: its last events are under way.
    pub async fn owned_pod(
        &self,
        node: &NodeName,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<bool, Status> {
        if self.placement.read(|graph| graph.has_left(node.as_str(), namespace, name, uid)) {
            return Ok(true);
        }
        Ok(matches!(self.owner(node, namespace, name).await?, Owner::Ours))
    }

    /// True for a pod of this node, and for one that no longer exists.
    pub async fn owns_or_lost_pod(
        &self,
        node: &NodeName,
        namespace: &str,
        name: &str,
    ) -> Result<bool, Status> {
        Ok(!matches!(self.owner(node, namespace, name).await?, Owner::Other))
    }

    /// True for what pods of this node refer to, the volumes behind their claims, and what names the node itself. An
    /// error is that of looking the object up.
    pub async fn may_read(&self, node: &NodeName, key: &ObjectKey) -> Result<bool, Status> {
        Ok(match key.kind {
            ObjectKind::PersistentVolume => {
                let claim = &self.look_up(key).await?["spec"]["claimRef"];
                let (namespace, name) = (claim["namespace"].as_str(), claim["name"].as_str());
                let claim =
                    ObjectKey::new(namespace, ObjectKind::PersistentVolumeClaim, name.unwrap_or_default());
                self.placement.read(|graph| graph.may_read(node.as_str(), &claim))
            }
            ObjectKind::VolumeAttachment => self.look_up(key).await?["spec"]["nodeName"] == node.as_str(),
            ObjectKind::CertificateSigningRequest => is_for_own_name(&self.look_up(key).await?, node),
            _ => self.placement.read(|graph| graph.may_read(node.as_str(), key)),
        })
    }

    async fn look_up(&self, key: &ObjectKey) -> Result<Value, Status> {
        let failure = |error: String| Status::new(400, "BadRequest", error);
        let path = key.api_path().ok_or_else(|| failure(format!("{key} cannot be looked up")))?;
        let object = self.cluster.get(&path).await.map_err(|status| undecided(key, status))?;
        object.parse().map_err(|error| failure(error.to_string()))
    }

    pub async fn may_mint(
        &self,
        node: &NodeName,
        namespace: &str,
        account: &str,
        pod: &str,
        uid: &str,
    ) -> bool {
        self.placement.read(|graph| graph.may_mint(node.as_str(), namespace, account, pod, uid))
    }

    /// True for a device of this node. A device that is not known here yet is looked up: an error says that it exists
    /// and that asking again helps.
    pub async fn owns_device(&self, node: &NodeName, namespace: &str, name: &str) -> Result<bool, Status> {
        if let Some(owner) = self.devices.owner(namespace, name) {
            return Ok(owner == node.as_str());
        }
        let key = ObjectKey::new(Some(namespace), ObjectKind::Device, name);
        let Some(path) = key.api_path() else { return Ok(false) };
        match self.cluster.get(&path).await {
            Ok(device) => {
                let device = device.parse::<serde_json::Value>().unwrap_or_default();
                if device["spec"]["nodeName"] != node.as_str() {
                    return Ok(false);
                }
                let text = format!("device {namespace}/{name} is not known here yet");
                Err(Status::new(503, "ServiceUnavailable", text))
            }
            Err(status) if status.is_not_found() => Ok(false),
            Err(status) => Err(undecided(&key, status)),
        }
    }

    async fn owner(&self, node: &NodeName, namespace: &str, name: &str) -> Result<Owner, Status> {
        if self.placement.read(|graph| graph.owns_pod(node.as_str(), namespace, name)) {
            return Ok(Owner::Ours);
        }
        let key = ObjectKey::new(Some(namespace), ObjectKind::Pod, name);
        let Some(path) = key.api_path() else { return Ok(Owner::Other) };
        match self.cluster.get(&path).await {
            Ok(pod) => match pod.parse::<serde_json::Value>() {
                Ok(pod) if pod["spec"]["nodeName"] == node.as_str() => Ok(Owner::Ours),
                _ => Ok(Owner::Other),
            },
            Err(status) if status.is_not_found() => Ok(Owner::Nobody),
            Err(status) => Err(undecided(&key, status)),
        }
    }
}

/// A look-up that failed decides nothing: whatever the API server said of it, asking again may help.
fn undecided(key: &ObjectKey, status: Status) -> Status {
    if status.is_not_found() {
        return status;
    }
    Status::new(503, "ServiceUnavailable", format!("looking up {key}: {status}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_certificate_is_asked_for_under_the_own_name_only() {
        let (_, der) = pki::node_request("e1").unwrap();
        let pem = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            STANDARD.encode(der)
        );
        let object = |signer: &str, pem: &str| json!({"spec": {"signerName": signer, "request": STANDARD.encode(pem)}});
        let node = |name: &str| NodeName::new(name).unwrap();
        assert!(is_for_own_name(&object(SERVING, &pem), &node("e1")));
        assert!(!is_for_own_name(&object(SERVING, &pem), &node("e2")));
        assert!(!is_for_own_name(&object("kubernetes.io/kube-apiserver-client", &pem), &node("e1")));
        assert!(!is_for_own_name(&object(SERVING, "nonsense"), &node("e1")));
        assert!(!is_for_own_name(&json!({}), &node("e1")));
    }
}
