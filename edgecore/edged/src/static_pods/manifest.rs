//! One manifest -> one pod, named and marked as the kubelet does.

use std::path::Path;

use apimachinery::{Cause, names, pod};
use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};
use message::NodeName;
use serde_json::{Value, json};

use super::folder::Manifest;
use podmodel::demand::SOURCE;
use podmodel::spec;

pub(super) const HASH: &str = "kubernetes.io/config.hash";
const SEEN: &str = "kubernetes.io/config.seen";

#[derive(Debug, thiserror::Error)]
pub(super) enum ManifestError {
    #[error("reading YAML or JSON: {reason} (an empty file, or one larger than 1 MiB, is none)")]
    NotYaml { reason: String },
    #[error("it is a {kind}, not a Pod of version v1")]
    NotPod { kind: String },
    #[error("reading it as a Pod")]
    Unreadable(#[source] serde_json::Error),
    #[error("it has no {field}")]
    Missing { field: &'static str },
    #[error("{problems}")]
    Invalid { problems: String },
    #[error("static pods may not refer to {what}: they must start without an API")]
    NeedsApi { what: &'static str },
}

/// Reads a manifest. The uid is the one written, or a hash of contents, node and path, so that a changed file is
/// another pod.
pub(super) fn pod(
    Manifest { text, written }: &Manifest,
    path: &Path,
    node: &NodeName,
) -> Result<Pod, ManifestError> {
    let mut value: Value = apimachinery::yaml::parse(text)
        .map_err(|error| ManifestError::NotYaml { reason: error.to_string() })?;
    let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    if field("kind") != "Pod" || field("apiVersion") != "v1" {
        let kind = format!("{} {}", field("apiVersion"), field("kind"));
        return Err(ManifestError::NotPod { kind });
    }
    let given = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if given.is_empty() {
        return Err(ManifestError::Missing { field: "metadata.name" });
    }
    let name = format!("{given}-{}", node.as_str().to_lowercase());
    let namespace = value.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
    let namespace = if namespace.is_empty() { "default" } else { namespace }.to_owned();
    pod::defaults::pod(&mut value);
    judge(&value, &name, &namespace)?;
    // By way of text: pods are read from text everywhere, and a second reader of this type is large.
    let mut pod: Pod = serde_json::from_str(&value.to_string()).map_err(ManifestError::Unreadable)?;
    let uid = pod.metadata.uid.take().filter(|uid| spec::is_safe_uid(uid));
    let hash = uid.unwrap_or_else(|| hash(text, path, node));
    let spec = pod.spec.as_mut().ok_or(ManifestError::Missing { field: "spec" })?;
    check(spec)?;
    spec.node_name = Some(node.as_str().to_owned());
    // Taints that drive pods away are for those the API placed.
    spec.tolerations.get_or_insert_default().push(Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    });
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(SOURCE.to_owned(), "file".to_owned());
    annotations.insert(HASH.to_owned(), hash.clone());
    // The time of reading would make every scan a change; the file says since when it is as it is.
    annotations.insert(SEEN.to_owned(), daemon::clock::rfc3339(*written));
    pod.metadata.name = Some(name);
    pod.metadata.namespace = Some(namespace);
    pod.metadata.uid = Some(hash);
    pod.status = None;
    Ok(pod)
}

/// As the API would judge the pod: what it refuses has no mirror there, and may name paths outside its folder.
fn judge(value: &Value, name: &str, namespace: &str) -> Result<(), ManifestError> {
    let mut causes = pod::problems("spec", &value["spec"]);
    for (field, text, rule) in [
        ("metadata.name", name, names::subdomain as fn(&str) -> Option<String>),
        ("metadata.namespace", namespace, names::label),
    ] {
        causes.extend(rule(text).map(|why| Cause::invalid(field, &json!(text), &why)));
    }
    let pairs = |field: &str| value["metadata"][field].as_object().cloned().unwrap_or_default();
    for (key, text) in pairs("labels") {
        let why = names::qualified(&key).or_else(|| names::label_value(text.as_str().unwrap_or_default()));
        causes.extend(why.map(|why| Cause::invalid("metadata.labels", &json!(key), &why)));
    }
    for key in pairs("annotations").keys() {
        let why = names::qualified(&key.to_lowercase());
        causes.extend(why.map(|why| Cause::invalid("metadata.annotations", &json!(key), &why)));
    }
    match causes.is_empty() {
        true => Ok(()),
        false => {
            let told = causes.iter().take(SHOWN).map(|cause| format!("{}: {}", cause.field, cause.message));
            Err(ManifestError::Invalid { problems: told.collect::<Vec<_>>().join("; ") })
        }
    }
}

/// Problems of one manifest that are told at once.
const SHOWN: usize = 8;

/// The first half of a SHA-256, in the form of the kubelet's hashes.
fn hash(text: &str, path: &Path, node: &NodeName) -> String {
    let parts =
        [text.as_bytes(), b"\0", node.as_str().as_bytes(), b"\0", path.as_os_str().as_encoded_bytes()];
    pki::fingerprint(&parts.concat()).chars().take(32).collect()
}

/// Nothing a static pod names may have to be fetched.
fn check(spec: &PodSpec) -> Result<(), ManifestError> {
    let needs = |what| Err(ManifestError::NeedsApi { what });
    if spec.service_account_name.as_ref().is_some_and(|name| !name.is_empty()) {
        return needs("a service account");
    }
    if spec.ephemeral_containers.as_ref().is_some_and(|guests| !guests.is_empty()) {
        return needs("ephemeral containers");
    }
    if spec.volumes.iter().flatten().any(|volume| volume.persistent_volume_claim.is_some()) {
        return needs("claims of volumes");
    }
    let pod = Pod { spec: Some(spec.clone()), ..Pod::default() };
    match spec::references(&pod).is_empty() {
        true => Ok(()),
        false => needs("config maps or secrets"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Pod, ManifestError> {
        let manifest = Manifest { text: text.to_owned(), ..Manifest::default() };
        super::pod(&manifest, Path::new("/m/a.yaml"), &NodeName::new("edge-1").unwrap())
    }

    const GOOD: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: a, image: b}\n";

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node_that_changes_its_uid_with_its_text() {
        let pod = read(GOOD).unwrap();
        assert_eq!(pod.metadata.name.as_deref(), Some("web-edge-1"));
        assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
        let annotations = pod.metadata.annotations.as_ref().unwrap();
        assert_eq!(annotations.get(HASH), pod.metadata.uid.as_ref());
        assert_eq!(pod.spec.as_ref().unwrap().node_name.as_deref(), Some("edge-1"));
        assert_eq!(read(GOOD).unwrap(), pod);
        assert_ne!(read(&format!("{GOOD}# changed\n")).unwrap().metadata.uid, pod.metadata.uid);
    }

    #[test]
    fn what_is_no_pod_or_needs_an_api_is_refused_with_its_reason() {
        let with = |line: &str| format!("{GOOD}  {line}\n");
        let table = [
            (String::new(), "not a Pod"),
            ("a: [".to_owned(), "YAML"),
            ("apiVersion: v1\nkind: Secret\n".to_owned(), "Secret"),
            (GOOD.replace("web", ""), "metadata.name"),
            (GOOD.replace("web", "\"../x\""), "metadata.name"),
            (with("serviceAccountName: s"), "service account"),
            (with("volumes: [{name: v, secret: {secretName: s}}]"), "secrets"),
            (with("volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]"), "claims"),
            (GOOD.replace("name: a,", "name: ../../a,"), "spec.containers[0].name"),
            (GOOD.replace("name: a,", "name: A_b,"), "spec.containers[0].name"),
            (with("volumes: [{name: ../../v, emptyDir: {}}]"), "spec.volumes[0].name"),
            (with("initContainers: [{name: a, image: b}]"), "spec.containers[0].name"),
            (with("volumes: [{name: v, hostPath: {path: /a/../etc}}]"), "must not contain '..'"),
            (
                GOOD.replace("image: b", "image: b, volumeMounts: [{name: v, mountPath: /v}]"),
                "volumeMounts[0].name",
            ),
            (GOOD.replace("{name: web}", "{name: web, labels: {a b: c}}"), "metadata.labels"),
            (GOOD.replace("{name: web}", "{name: web, namespace: a.b}"), "metadata.namespace"),
        ];
        for (text, expected) in table {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_mode_is_octal_as_the_kubelet_reads_it() {
        let volumes = "volumes: [{name: v, downwardAPI: {defaultMode: 0640, items: [{path: p, mode: 0o400, fieldRef: {fieldPath: metadata.name}}]}}]";
        let pod = read(&format!("{GOOD}  {volumes}\n")).unwrap();
        let volume = pod.spec.unwrap().volumes.unwrap().remove(0).downward_api.unwrap();
        assert_eq!((volume.default_mode, volume.items.unwrap()[0].mode), (Some(416), Some(256)));
    }
}
