//! Giving a pod its service account and the volume with its token.

use apimachinery::Status;
use apimachinery::object::{self, list, maps_in, set_default, text};
use kubeapi::stored::Key;
use kubeapi::target::Target;
use serde_json::{Value, json};

use crate::context::Context;
use crate::suffix;

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME: &str = "kube-api-access-";
/// What the real server asks for, so that kubelets can tell its volume by it.
const TOKEN_SECONDS: i64 = 3607;
/// Mirror pods of static pods get nothing.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Sets `serviceAccountName` and mounts `kube-api-access-<5>`, unless told not to.
pub(super) async fn attach(context: &Context, target: &Target, pod: &mut Value) -> Result<(), Status> {
    let mirror = pod["metadata"]["annotations"].get(MIRROR).is_some();
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
    if mirror {
        return Ok(());
    }
    if let Some(old_name) = spec.get("serviceAccount").cloned() {
        set_default(spec, "serviceAccountName", old_name);
    }
    set_default(spec, "serviceAccountName", "default");
    let name = spec["serviceAccountName"].as_str().unwrap_or_default().to_owned();
    spec.insert("serviceAccount".to_owned(), json!(name));
    let found = context.storage.get(&Key::new("serviceaccounts", &target.namespace, &name)).await?;
    let Some(account) = found else {
        let why = format!(
            "error looking up service account {}/{name}: serviceaccount {name:?} not found",
            target.namespace
        );
        return Err(Status::refused("", "pods", &target.name, &why));
    };
    let account = account.value()?;
    if !object::list(&account, "/imagePullSecrets").is_empty() {
        set_default(spec, "imagePullSecrets", account["imagePullSecrets"].clone());
    }
    let wanted = spec.get("automountServiceAccountToken").or(account.get("automountServiceAccountToken"));
    if wanted.is_none_or(|wanted| *wanted != false) {
        mount(spec);
    }
    Ok(())
}

fn mount(spec: &mut serde_json::Map<String, Value>) {
    // A container that a webhook adds gets what the others have.
    let given = list(spec.get("volumes").unwrap_or(&Value::Null), "").iter();
    let given = given.map(|volume| text(volume, "/name")).find(|name| name.starts_with(VOLUME));
    let (volume, is_there) = match given {
        Some(given) => (given.to_owned(), true),
        None => (format!("{VOLUME}{}", suffix::draw()), false),
    };
    let mut mounted = false;
    for list in ["containers", "initContainers"] {
        for container in maps_in(spec, list) {
            let Value::Array(mounts) = container.entry("volumeMounts").or_insert_with(|| json!([])) else {
                continue;
            };
            if mounts.iter().all(|mount| text(mount, "/mountPath") != MOUNT) {
                mounts.push(json!({ "name": volume, "readOnly": true, "mountPath": MOUNT }));
                mounted = true;
            }
        }
    }
    if !mounted || is_there {
        return;
    }
    if let Value::Array(volumes) = spec.entry("volumes").or_insert_with(|| json!([])) {
        volumes.push(json!({ "name": volume, "projected": { "defaultMode": 420, "sources": [
            { "serviceAccountToken": { "expirationSeconds": TOKEN_SECONDS, "path": "token" } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [
                { "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } } ] } },
        ] } }));
    }
}
