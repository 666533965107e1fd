//! Secrets of namespace `kubeedge`, read and written so that no replica overwrites what it has not seen.

use std::collections::BTreeMap;

use apimachinery::kinds::lines;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use message::Json;
use serde_json::{Value, json};

use super::{MaterialError, NAMESPACE};
use crate::kubernetes::Cluster;

/// A secret as it was read; written back, it must not have changed since.
pub(super) struct Stored {
    object: Value,
}

impl Stored {
    pub(super) fn data(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = self.object["data"].as_object().into_iter().flatten();
        let decoded =
            entries.filter_map(|(key, value)| Some((key.clone(), STANDARD.decode(value.as_str()?).ok()?)));
        decoded.collect()
    }

    pub(super) fn annotation(&self, name: &str) -> &str {
        self.object["metadata"]["annotations"][name].as_str().unwrap_or_default()
    }
}

fn path(name: &str) -> String {
    lines::Secret.path(Some(NAMESPACE), name)
}

fn collection() -> String {
    path("")
}

pub(super) async fn read(cluster: &Cluster, name: &str) -> Result<Option<Stored>, MaterialError> {
    match cluster.get(&path(name)).await {
        Ok(secret) => Ok(secret.parse().ok().map(|object| Stored { object })),
        Err(status) if status.is_not_found() => Ok(None),
        Err(source) => Err(MaterialError::Cluster { what: "reading a secret", source }),
    }
}

/// Writes `data` over what was `seen`, or makes the secret. False: somebody else wrote first; read again.
pub(super) async fn write(
    cluster: &Cluster,
    name: &str,
    seen: Option<&Stored>,
    data: &BTreeMap<String, Vec<u8>>,
    annotations: &[(&str, &str)],
) -> Result<bool, MaterialError> {
    let data: serde_json::Map<String, Value> =
        data.iter().map(|(key, bytes)| (key.clone(), Value::String(STANDARD.encode(bytes)))).collect();
    let mut object = match seen {
        Some(seen) => seen.object.clone(),
        None => json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": name, "namespace": NAMESPACE},
        }),
    };
    object["data"] = Value::Object(data);
    for (key, value) in annotations {
        object["metadata"]["annotations"][*key] = json!(value);
    }
    let written = match seen {
        Some(_) => cluster.replace(&path(name), &Json::of(&object)).await,
        None => cluster.create(&collection(), &Json::of(&object)).await,
    };
    match written {
        Ok(_) => Ok(true),
        Err(status) if status.is_conflict() || status.is_not_found() => Ok(false),
        Err(source) => Err(MaterialError::Cluster { what: "writing a secret", source }),
    }
}
