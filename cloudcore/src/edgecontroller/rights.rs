//! What nodes may touch, asked by the hub for every message. Answers from the placement graph; a pod the graph does
//! not place on the node yet is looked up in the API server before it is refused.

use message::{NodeName, ObjectKey, ObjectKind, Status};

use super::Downstream;
use crate::devicecontroller::Devices;
use crate::kubernetes::{Cluster, path_of};

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

    pub async fn owns_pod(&self, node: &NodeName, namespace: &str, name: &str) -> bool {
        matches!(self.owner(node, namespace, name).await, Owner::Ours)
    }

    /// True for a pod of this node, and for one that no longer exists.
    pub async fn owns_or_lost_pod(&self, node: &NodeName, namespace: &str, name: &str) -> bool {
        !matches!(self.owner(node, namespace, name).await, Owner::Other)
    }

    pub async fn may_read(&self, node: &NodeName, key: &ObjectKey) -> bool {
        self.placement.read(|graph| graph.may_read(node.as_str(), key))
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
        let Some(path) = path_of(&key) else { return Ok(false) };
        match self.cluster.get(&path).await {
            Ok(device) => {
                let device = device.parse::<serde_json::Value>().unwrap_or_default();
                if device["spec"]["nodeName"] != node.as_str() {
                    return Ok(false);
                }
                let text = format!("device {namespace}/{name} is not known here yet");
                Err(Status::failure(503, "ServiceUnavailable", text))
            }
            Err(status) if status.is_not_found() => Ok(false),
            Err(status) => Err(status),
        }
    }

    async fn owner(&self, node: &NodeName, namespace: &str, name: &str) -> Owner {
        if self.placement.read(|graph| graph.owns_pod(node.as_str(), namespace, name)) {
            return Owner::Ours;
        }
        let Some(path) = path_of(&ObjectKey::new(Some(namespace), ObjectKind::Pod, name)) else {
            return Owner::Other;
        };
        match self.cluster.get(&path).await {
            Ok(pod) => match pod.parse::<serde_json::Value>() {
                Ok(pod) if pod["spec"]["nodeName"] == node.as_str() => Owner::Ours,
                _ => Owner::Other,
            },
            Err(status) if status.is_not_found() => Owner::Nobody,
            Err(_) => Owner::Other,
        }
    }
}
