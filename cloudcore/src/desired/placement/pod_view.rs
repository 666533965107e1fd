//! What the graph reads of a pod.

use std::collections::BTreeMap;

use message::{Json, ObjectKey, ObjectKind};
use serde_json::Value;

/// A pod as it is read here: what is missing, null or of another type is not there. The API server may hold such pods, and
/// their nodes have to hear of them.
pub(super) struct PodView(Value);

/// On pods that a node made from its own files: they lead to nothing of the cluster.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";

impl PodView {
    pub(super) fn of(object: &Json) -> PodView {
        PodView(object.parse().unwrap_or_default())
    }

    pub(super) fn node(&self) -> &str {
        self.0["spec"]["nodeName"].as_str().unwrap_or_default()
    }

    fn is_mirror(&self) -> bool {
        self.0["metadata"]["annotations"].get(MIRROR).is_some()
    }

    /// Whose tokens it may have; none for a mirror.
    pub(super) fn service_account(&self) -> &str {
        match self.is_mirror() {
            true => "",
            false => self.0["spec"]["serviceAccountName"]
                .as_str()
                .filter(|name| !name.is_empty())
                .unwrap_or("default"),
        }
    }

    fn list(&self, field: &str) -> impl Iterator<Item = &Value> {
        self.0["spec"][field].as_array().into_iter().flatten()
    }

    /// Config maps, secrets and claims named by volumes, environments and pull secrets, of every kind of container.
    pub(super) fn references(&self, pod: &ObjectKey) -> References {
        let namespace = pod.namespace.as_deref().unwrap_or_default();
        let mut found = References::default();
        if self.is_mirror() {
            return found;
        }
        let containers = ["containers", "initContainers", "ephemeralContainers"];
        for container in containers.into_iter().flat_map(|field| self.list(field)) {
            collect(container, namespace, &mut found);
        }
        for volume in self.list("volumes") {
            collect(volume, namespace, &mut found);
            // The claim of an ephemeral volume is named after pod and volume.
            if let (Some(_), Some(name)) = (volume["ephemeral"].as_object(), volume["name"].as_str()) {
                let claim = format!("{}-{name}", pod.name);
                found.add(ObjectKind::PersistentVolumeClaim, Some(&claim), namespace, true);
            }
        }
        for secret in self.list("imagePullSecrets") {
            // Images are pulled without those that are missing.
            found.add(ObjectKind::Secret, secret["name"].as_str(), namespace, false);
        }
        found
    }
}

/// What a pod refers to, and whether it needs it.
#[derive(Default)]
pub(super) struct References(pub BTreeMap<ObjectKey, bool>);

impl References {
    fn add(&mut self, kind: ObjectKind, name: Option<&str>, namespace: &str, needed: bool) {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            *self.0.entry(ObjectKey::new(Some(namespace), kind, name)).or_default() |= needed;
        }
    }
}

/// Finds references by the field names the pod API uses for them.
fn collect(value: &Value, namespace: &str, found: &mut References) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, namespace, found)),
        Value::Object(fields) => {
            for (field, inner) in fields {
                let needed = inner["optional"] != true;
                match field.as_str() {
                    "configMap" | "configMapRef" | "configMapKeyRef" => {
                        found.add(ObjectKind::ConfigMap, inner["name"].as_str(), namespace, needed);
                    }
                    "secret" | "secretRef" | "secretKeyRef" | "nodePublishSecretRef" => {
                        let name = inner["secretName"].as_str().or_else(|| inner["name"].as_str());
                        found.add(ObjectKind::Secret, name, namespace, needed);
                    }
                    "persistentVolumeClaim" => {
                        let claim = inner["claimName"].as_str();
                        found.add(ObjectKind::PersistentVolumeClaim, claim, namespace, needed);
                    }
                    _ => collect(inner, namespace, found),
                }
            }
        }
        _ => {}
    }
}
