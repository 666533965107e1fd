//! The resources CloudCore watches and the paths of those it reads and writes.

use api::{devices, refused, reliablesyncs};
use kube::core::ApiResource;
use message::{Json, ObjectKey, ObjectKind, check_name};
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
}

impl Resource {
    /// (group, version, kind, plural)
    fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Resource::Pods => ("", "v1", "Pod", "pods"),
            Resource::ConfigMaps | Resource::RefusedNodes => ("", "v1", "ConfigMap", "configmaps"),
            Resource::Secrets => ("", "v1", "Secret", "secrets"),
            Resource::Nodes => ("", "v1", "Node", "nodes"),
            Resource::Devices => (devices::GROUP, devices::VERSION, "Device", "devices"),
            Resource::DeviceModels => (devices::GROUP, devices::VERSION, "DeviceModel", "devicemodels"),
            Resource::ObjectSyncs => {
                (reliablesyncs::GROUP, reliablesyncs::VERSION, "ObjectSync", "objectsyncs")
            }
            Resource::ClusterObjectSyncs => {
                (reliablesyncs::GROUP, reliablesyncs::VERSION, "ClusterObjectSync", "clusterobjectsyncs")
            }
        }
    }

    pub(super) fn api(self) -> ApiResource {
        let (group, version, kind, plural) = self.names();
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version,
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
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
        }
    }

    /// Which objects of the resource are watched; `None`: all.
    pub(super) fn fields(self) -> Option<String> {
        let one = |namespace, name| format!("metadata.namespace={namespace},metadata.name={name}");
        (self == Resource::RefusedNodes).then(|| one(refused::NAMESPACE, refused::NAME))
    }

    pub(super) fn plural(self) -> &'static str {
        self.names().3
    }

    /// What the link calls it; `None` for the bookkeeping resources, which never cross it.
    pub fn kind(self) -> Option<ObjectKind> {
        match self {
            Resource::Pods => Some(ObjectKind::Pod),
            Resource::ConfigMaps => Some(ObjectKind::ConfigMap),
            Resource::Secrets => Some(ObjectKind::Secret),
            Resource::Nodes => Some(ObjectKind::Node),
            Resource::Devices => Some(ObjectKind::Device),
            Resource::DeviceModels => Some(ObjectKind::DeviceModel),
            Resource::ObjectSyncs | Resource::ClusterObjectSyncs | Resource::RefusedNodes => None,
        }
    }

    /// Path of one object, or of the collection when `name` is empty.
    pub fn path(self, namespace: Option<&str>, name: &str) -> String {
        let (group, version, _, plural) = self.names();
        build_path(group, version, plural, namespace, name)
    }
}

/// What is told of an object that is gone: its identity. KubeEdge's edges decode deletions by kind and version.
pub fn identity(key: &ObjectKey, uid: &str) -> Json {
    let watched = [
        Resource::Pods,
        Resource::ConfigMaps,
        Resource::Secrets,
        Resource::Nodes,
        Resource::Devices,
        Resource::DeviceModels,
    ];
    let resource = watched.into_iter().find(|resource| resource.kind().as_ref() == Some(&key.kind));
    match resource {
        Some(resource) => stub(&resource.api(), key.namespace.as_deref(), &key.name, uid),
        // No other kind is put on a node.
        None => object_of(json!({"metadata": {"name": key.name, "namespace": key.namespace, "uid": uid}})),
    }
}

/// Like [`identity`], of an object of `resource`.
pub(super) fn stub(resource: &ApiResource, namespace: Option<&str>, name: &str, uid: &str) -> Json {
    object_of(json!({
        "kind": resource.kind,
        "apiVersion": resource.api_version,
        "metadata": {"name": name, "namespace": namespace, "uid": uid},
    }))
}

fn object_of(tree: serde_json::Value) -> Json {
    // A tree of texts can be encoded.
    Json::encode(&tree).unwrap_or_else(|_| Json::null())
}

fn build_path(group: &str, version: &str, plural: &str, namespace: Option<&str>, name: &str) -> String {
    let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    let scope = namespace.map(|namespace| format!("/namespaces/{namespace}")).unwrap_or_default();
    let name = if name.is_empty() { String::new() } else { format!("/{name}") };
    format!("{root}{scope}/{plural}{name}")
}

/// API path of an object an edge may read or write; `None` for kinds with no such path, and for names that would lead
/// elsewhere. An empty name gives the collection.
pub fn path_of(key: &ObjectKey) -> Option<String> {
    let mut names = key.namespace.iter().chain((!key.name.is_empty()).then_some(&key.name));
    if !names.all(|name| check_name(name).is_ok()) {
        return None;
    }
    let (group, version, plural) = match &key.kind {
        ObjectKind::Pod => ("", "v1", "pods"),
        ObjectKind::ConfigMap => ("", "v1", "configmaps"),
        ObjectKind::Secret => ("", "v1", "secrets"),
        ObjectKind::Node => ("", "v1", "nodes"),
        ObjectKind::Event => ("", "v1", "events"),
        ObjectKind::Lease => ("coordination.k8s.io", "v1", "leases"),
        ObjectKind::PersistentVolume => ("", "v1", "persistentvolumes"),
        ObjectKind::PersistentVolumeClaim => ("", "v1", "persistentvolumeclaims"),
        ObjectKind::VolumeAttachment => ("storage.k8s.io", "v1", "volumeattachments"),
        ObjectKind::CertificateSigningRequest => ("certificates.k8s.io", "v1", "certificatesigningrequests"),
        ObjectKind::RuntimeClass => ("node.k8s.io", "v1", "runtimeclasses"),
        ObjectKind::Device => (devices::GROUP, devices::VERSION, "devices"),
        ObjectKind::DeviceModel => (devices::GROUP, devices::VERSION, "devicemodels"),
        _ => return None,
    };
    // These two are cluster scoped although edges name a namespace (docs/protocol/transport.md 1.4).
    let cluster = matches!(key.kind, ObjectKind::VolumeAttachment | ObjectKind::CertificateSigningRequest);
    let namespace = key.namespace.as_deref().filter(|_| !cluster);
    Some(build_path(group, version, plural, namespace, &key.name))
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
