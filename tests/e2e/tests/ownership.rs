//! Field ownership in the embedded API server, with kubectl and CloudCore's own writes.

use anyhow::{Result, ensure};
use harness::cloud::Cloud;
use harness::programs::Programs;
use serde_json::Value;

const SETTINGS: &str =
    r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "1"}}"#;

/// The managers of an object's fields.
fn managers(object: &str) -> Result<Vec<String>> {
    let object: Value = serde_json::from_str(object)?;
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    Ok(entries.iter().filter_map(|entry| entry["manager"].as_str().map(str::to_owned)).collect())
}

#[test]
fn fields_belong_to_who_wrote_them_and_kubectl_applies_around_others() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let cloud = Cloud::init(&Programs::find()?, &scratch.path().join("cloud"))?;
    let kubectl = cloud.kubectl();
    let manifest = scratch.path().join("m.json");
    std::fs::write(&manifest, SETTINGS)?;
    let file = manifest.display().to_string();
    kubectl.run(&["apply", "--server-side", "-f", &file])?;
    kubectl.run(&["patch", "configmap", "m", "--field-manager=other", "-p", r#"{"data": {"a": "2"}}"#])?;
    let refused = kubectl.run(&["apply", "--server-side", "-f", &file]);
    let refused = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(refused.contains(r#"conflict with "other" using v1: .data.a"#), "{refused}");
    kubectl.run(&["apply", "--server-side", "--force-conflicts", "-f", &file])?;
    let shown = kubectl.run(&["get", "configmap", "m", "--show-managed-fields", "-o", "json"])?;
    ensure!(managers(&shown)? == ["kubectl"], "{shown}");
    let explained = kubectl.run(&["explain", "pods.spec.containers.image"])?;
    ensure!(explained.contains("FIELD: image <string>"), "{explained}");
    // What CloudCore made itself says so.
    let shown = kubectl.run(&["-n", "kubeedge", "get", "secrets", "--show-managed-fields", "-o", "json"])?;
    let secrets: Value = serde_json::from_str(&shown)?;
    let items = secrets["items"].as_array().cloned().unwrap_or_default();
    ensure!(!items.is_empty(), "CloudCore made no secrets: {shown}");
    for secret in items {
        ensure!(managers(&secret.to_string())?.contains(&"cloudcore".to_owned()), "{secret}");
    }
    Ok(())
}
