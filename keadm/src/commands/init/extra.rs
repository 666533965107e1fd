//! `keadm init --manifests`: objects of files beside CloudCore's, applied after them as `kubectl apply --server-side` does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use apimachinery::yaml;
use serde_json::Value;

use crate::cluster::{Objects, title};
use crate::render;

/// Largest file that is read.
const FILE: u64 = 4 * 1024 * 1024;
/// How long a kind may be unknown: its definition may have been applied a moment ago.
const KIND: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(500);

/// Reads the objects of files and folders (`.yaml`, `.yml`, `.json`, in the order of their names; not of folders below).
pub(super) fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Value>> {
    let mut objects = Vec::new();
    for path in paths {
        for file in files(path)? {
            objects.extend(of_file(&file).with_context(|| format!("--manifests {}", file.display()))?);
        }
    }
    Ok(objects)
}

fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let reading = || format!("--manifests {}", path.display());
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).with_context(reading)?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.with_context(reading)?.path();
        let is_manifest =
            file.extension().is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|one| ending == *one));
        if is_manifest && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn of_file(file: &Path) -> anyhow::Result<Vec<Value>> {
    let size = std::fs::metadata(file).context("reading it")?.len();
    if size > FILE {
        bail!("it has {size} bytes, at most {FILE} are read");
    }
    let documents = yaml::parse_all(&std::fs::read_to_string(file).context("reading it")?)?;
    let mut objects = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        match document["items"].as_array() {
            Some(items) if document["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => {
                objects.extend(items.iter().cloned());
            }
            _ => objects.push(document),
        }
    }
    for (number, object) in objects.iter().enumerate() {
        let has = |pointer: &str| {
            object.pointer(pointer).and_then(Value::as_str).is_some_and(|text| !text.is_empty())
        };
        if !["/apiVersion", "/kind", "/metadata/name"].into_iter().all(has) {
            bail!("object {} has no apiVersion, kind or metadata.name", number + 1);
        }
    }
    Ok(objects)
}

/// Applies `extra` in its order; names what it has applied in `applied`.
pub(super) async fn apply(
    objects: &Objects,
    extra: &[Value],
    applied: &mut Vec<String>,
) -> anyhow::Result<()> {
    for object in extra {
        let title = title(object);
        let path = path(objects, object).await.with_context(|| format!("applying {title}"))?;
        objects.apply(&path, object).await.with_context(|| format!("applying {title}"))?;
        render::done(&format!("apply {title}"));
        applied.push(title);
    }
    Ok(())
}

/// The path of an object, as the API server says of its kind.
async fn path(objects: &Objects, object: &Value) -> anyhow::Result<String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("/apiVersion"), text("/kind"));
    let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let found = async {
        loop {
            if let Some(place) = objects.get(&root).await?.as_ref().and_then(|served| place(served, kind)) {
                return Ok::<_, anyhow::Error>(place);
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let found = tokio::time::timeout(KIND, found).await;
    let (plural, is_namespaced) =
        found.with_context(|| format!("the cluster serves no kind {kind} of {version}"))??;
    let namespace = Some(text("/metadata/namespace")).filter(|text| !text.is_empty()).unwrap_or("default");
    let name = text("/metadata/name");
    Ok(match is_namespaced {
        true => format!("{root}/namespaces/{namespace}/{plural}/{name}"),
        false => format!("{root}/{plural}/{name}"),
    })
}

/// Plural of a kind, and whether its objects have namespaces, in an APIResourceList.
fn place(served: &Value, kind: &str) -> Option<(String, bool)> {
    let mut resources = served["resources"].as_array()?.iter();
    let is_it = |resource: &&Value| {
        // Subresources have the kinds of others.
        resource["kind"] == kind && !resource["name"].as_str().unwrap_or("/").contains('/')
    };
    let resource = resources.find(is_it)?;
    Some((resource["name"].as_str()?.to_owned(), resource["namespaced"] == true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn files_and_folders_give_their_objects_in_order_and_what_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let map = |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
        write("b.yaml", &format!("{}---\n{}---\n", map("b1"), map("b2")));
        write(
            "a.json",
            r#"{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}]}"#,
        );
        write("notes.txt", "nothing");
        let names = |paths: &[PathBuf]| -> anyhow::Result<Vec<String>> {
            Ok(read(paths)?.iter().map(title).collect())
        };
        let path = folder.path().to_owned();
        assert_eq!(names(std::slice::from_ref(&path)).unwrap(), ["Pod a", "ConfigMap b1", "ConfigMap b2"]);
        assert_eq!(names(&[path.join("b.yaml")]).unwrap().len(), 2);
        write("c.yaml", "kind: ConfigMap\n");
        let error = format!("{:#}", read(&[path]).unwrap_err());
        assert!(error.contains("c.yaml") && error.contains("apiVersion"), "{error}");
        assert!(read(&[PathBuf::from("/nonexistent.yaml")]).is_err());
    }

    #[test]
    fn a_kind_is_found_where_the_api_server_says() {
        let served = json!({"resources": [
            {"name": "pods/status", "kind": "Pod", "namespaced": true},
            {"name": "pods", "kind": "Pod", "namespaced": true},
            {"name": "nodes", "kind": "Node", "namespaced": false}]});
        assert_eq!(place(&served, "Pod"), Some(("pods".to_owned(), true)));
        assert_eq!(place(&served, "Node"), Some(("nodes".to_owned(), false)));
        assert_eq!(place(&served, "Secret"), None);
    }
}
