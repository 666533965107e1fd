//! What a pod refers to by name (`pkg/api/v1/pod/util.go`), and secrets of volumes (`pkg/api/persistentvolume/util.go`).

use std::collections::HashSet;

use serde_json::Value;

use crate::object::{list, text};

/// Names in the pod's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    pub secrets: HashSet<String>,
    pub config_maps: HashSet<String>,
    pub claims: HashSet<String>,
    pub resource_claims: HashSet<String>,
    /// Of the service account; may be empty.
    pub account: String,
    /// True if a volume holds a token of the service account.
    pub token: bool,
}

/// Sources of volumes that name a secret: field, and where the name is.
const SECRETS: [(&str, &str); 10] = [
    ("azureFile", "/secretName"),
    ("cephfs", "/secretRef/name"),
    ("cinder", "/secretRef/name"),
    ("flexVolume", "/secretRef/name"),
    ("rbd", "/secretRef/name"),
    ("scaleIO", "/secretRef/name"),
    ("iscsi", "/secretRef/name"),
    ("storageos", "/secretRef/name"),
    ("csi", "/nodePublishSecretRef/name"),
    ("secret", "/secretName"),
];

impl References {
    /// Those of a pod.
    pub fn of(pod: &Value) -> References {
        let spec = &pod["spec"];
        let account = text(spec, "/serviceAccountName").to_owned();
        let mut all = References { account, ..References::default() };
        let note = |set: &mut HashSet<String>, name: &str| {
            if !name.is_empty() {
                set.insert(name.to_owned());
            }
        };
        for secret in list(spec, "/imagePullSecrets") {
            note(&mut all.secrets, text(secret, "/name"));
        }
        let containers = ["/containers", "/initContainers", "/ephemeralContainers"];
        for container in containers.iter().flat_map(|of| list(spec, of)) {
            for from in list(container, "/envFrom") {
                note(&mut all.secrets, text(from, "/secretRef/name"));
                note(&mut all.config_maps, text(from, "/configMapRef/name"));
            }
            for variable in list(container, "/env") {
                note(&mut all.secrets, text(variable, "/valueFrom/secretKeyRef/name"));
                note(&mut all.config_maps, text(variable, "/valueFrom/configMapKeyRef/name"));
            }
        }
        for volume in list(spec, "/volumes") {
            for (field, name) in SECRETS {
                note(&mut all.secrets, text(&volume[field], name));
            }
            note(&mut all.config_maps, text(volume, "/configMap/name"));
            note(&mut all.claims, text(volume, "/persistentVolumeClaim/claimName"));
            if volume["ephemeral"].is_object() {
                let claim = format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name"));
                all.claims.insert(claim);
            }
            for source in list(volume, "/projected/sources") {
                note(&mut all.secrets, text(source, "/secret/name"));
                note(&mut all.config_maps, text(source, "/configMap/name"));
                all.token |= source["serviceAccountToken"].is_object();
            }
        }
        for claim in list(spec, "/resourceClaims") {
            note(&mut all.resource_claims, text(claim, "/resourceClaimName"));
        }
        for claim in list(pod, "/status/resourceClaimStatuses") {
            note(&mut all.resource_claims, text(claim, "/resourceClaimName"));
        }
        all
    }
}

/// Namespace and name of the secrets that a node needs for a persistent volume.
pub fn secrets_of_volume(volume: &Value) -> impl Iterator<Item = (String, String)> {
    let spec = &volume["spec"];
    let of_claim = text(spec, "/claimRef/namespace");
    let named = |reference: &Value, name: &str, namespace: &str| {
        let namespace = Some(text(reference, namespace)).filter(|own| !own.is_empty()).unwrap_or(of_claim);
        (namespace.to_owned(), text(reference, name).to_owned())
    };
    let file = named(&spec["azureFile"], "/secretName", "/secretNamespace");
    let others = ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"];
    let others = others.map(|field| named(&spec[field]["secretRef"], "/name", "/namespace"));
    let csi = ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"];
    let csi = csi.map(|field| named(&spec["csi"][field], "/name", "/namespace"));
    let all: Vec<_> = std::iter::once(file).chain(others).chain(csi).collect();
    all.into_iter().filter(|(_, name)| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_found_in_containers_of_all_sorts_and_in_volumes() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"imagePullSecrets": [{"name": "pull"}],
            "containers": [{"envFrom": [{"configMapRef": {"name": "from"}}]}],
            "ephemeralContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "key"}}}]}],
            "volumes": [{"name": "a", "secret": {"secretName": "s"}}, {"name": "b", "ephemeral": {}},
                {"name": "c", "projected": {"sources": [{"configMap": {"name": "m"}}, {"serviceAccountToken": {}}]}}]}});
        let all = References::of(&pod);
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<HashSet<_>>();
        assert_eq!(all.secrets, set(&["pull", "key", "s"]));
        assert_eq!((all.config_maps, all.claims), (set(&["from", "m"]), set(&["p-b"])));
        assert!(all.token);
    }
}
