//! The resources CloudCore watches.

use api::refused;
use apimachinery::kinds::{KindInfo, lines};
use kube::core::ApiResource;
use message::{Json, ObjectKey, ObjectKind};
use serde_json::json;

/// A watched resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    Pods,
    ConfigMaps,
    Secrets,
    Nodes,
    Devices,
    DeviceModels,
    ObjectSyncs,
    ClusterObjectSyncs,
    /// The one config map that lists them.
    RefusedNodes,
    /// Signing requests of nodes for certificates to serve with.
    ServingRequests,
}

impl Resource {
    fn info(self) -> &'static KindInfo {
        match self {
            Resource::Pods => &lines::Pod,
            Resource::ConfigMaps | Resource::RefusedNodes => &lines::ConfigMap,
            Resource::Secrets => &lines::Secret,
            Resource::Nodes => &lines::Node,
            Resource::Devices => &lines::Device,
            Resource::DeviceModels => &lines::DeviceModel,
            Resource::ObjectSyncs => &lines::ObjectSync,
            Resource::ClusterObjectSyncs => &lines::ClusterObjectSync,
            Resource::ServingRequests => &lines::CertificateSigningRequest,
        }
    }

    pub(super) fn api(self) -> ApiResource {
        api_resource(self.info())
    }

    /// The room of its watch.
    pub fn watch_name(self) -> &'static str {
        match self {
            Resource::Pods => "watch of pods",
            Resource::ConfigMaps => "watch of configmaps",
            Resource::Secrets => "watch of secrets",
            Resource::Nodes => "watch of nodes",
            Resource::Devices => "watch of devices",
            Resource::DeviceModels => "watch of devicemodels",
            Resource::ObjectSyncs => "watch of objectsyncs",
            Resource::ClusterObjectSyncs => "watch of clusterobjectsyncs",
            Resource::RefusedNodes => "watch of refused nodes",
            Resource::ServingRequests => "watch of signing requests",
        }
    }

    /// Which objects of the resource are watched; `None`: all.
    pub(super) fn fields(self) -> Option<String> {
        let one = |namespace, name| format!("metadata.namespace={namespace},metadata.name={name}");
        match self {
            Resource::RefusedNodes => Some(one(refused::NAMESPACE, refused::NAME)),
            Resource::ServingRequests => Some("spec.signerName=kubernetes.io/kubelet-serving".to_owned()),
            _ => None,
        }
    }

    /// The kind of its objects as edges have them; `None` for the bookkeeping resources, which never cross the link.
    pub fn kind(self) -> Option<ObjectKind> {
        let is_bookkeeping = matches!(self, Resource::RefusedNodes | Resource::ServingRequests);
        (!is_bookkeeping && self.info().synced.is_some()).then(|| self.info().object_kind())
    }

    pub(super) fn plural(self) -> &'static str {
        self.info().resource
    }

    /// Path of one object, or of the collection when `name` is empty.
    pub fn path(self, namespace: Option<&str>, name: &str) -> String {
        self.info().path(namespace, name)
    }
}

fn api_resource(info: &KindInfo) -> ApiResource {
    ApiResource {
        group: info.group.to_owned(),
        version: info.version.to_owned(),
        api_version: info.api_version(),
        kind: info.kind.to_owned(),
        plural: info.resource.to_owned(),
    }
}

/// What is told of an object that is gone: its identity. KubeEdge's edges decode deletions by kind and version.
pub fn identity(key: &ObjectKey, uid: &str) -> Json {
    match key.kind.info() {
        Some(info) => stub(&api_resource(info), key.namespace.as_deref(), &key.name, uid),
        None => Json::of(&json!({"metadata": {"name": key.name, "namespace": key.namespace, "uid": uid}})),
    }
}

/// Like [`identity`], of an object of `resource`.
pub(super) fn stub(resource: &ApiResource, namespace: Option<&str>, name: &str, uid: &str) -> Json {
    Json::of(&json!({
        "kind": resource.kind,
        "apiVersion": resource.api_version,
        "metadata": {"name": name, "namespace": namespace, "uid": uid},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_named_with_kind_and_version() {
        let told = |namespace, kind, name| {
            identity(&ObjectKey::new(namespace, kind, name), "u").parse::<serde_json::Value>().unwrap()
        };
        let pod = json!({"kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": "p", "namespace": "d", "uid": "u"}});
        assert_eq!(told(Some("d"), ObjectKind::Pod, "p"), pod);
        let device = told(Some("d"), ObjectKind::Device, "x");
        assert_eq!(device["apiVersion"], "devices.kubeedge.io/v1beta1");
        assert_eq!(told(None, ObjectKind::Node, "n")["kind"], "Node");
    }
}
