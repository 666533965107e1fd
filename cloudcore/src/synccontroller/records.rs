//! The sync objects that exist, by node. Pure.

use std::collections::HashMap;

use api::reliablesyncs::{Spec, split_name};
use message::{Json, ObjectKey, ObjectKind, ResourceVersion};
use serde::Deserialize;

use crate::kubernetes::Meta;

/// What one sync object says.
#[derive(Clone, Debug)]
struct Record {
    key: ObjectKey,
    version: ResourceVersion,
}

#[derive(Debug, Default)]
pub(super) struct Records {
    by_node: HashMap<String, HashMap<String, Record>>,
}

impl Records {
    pub(super) fn put(&mut self, meta: &Meta, object: &Json) {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Object {
            spec: Spec,
            status: Acknowledged,
        }
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Acknowledged {
            object_resource_version: String,
        }
        let Some((node, uid)) = split_name(&meta.name) else { return };
        let Object { spec, status } = object.parse::<Object>().unwrap_or_default();
        let kind = ObjectKind::of_object(&spec.object_api_version, &spec.object_kind.to_ascii_lowercase());
        let namespace = meta.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        let key = ObjectKey::new(namespace, kind, &spec.object_name);
        // KubeEdge leaves objects with an empty version stuck; here it counts as never acknowledged.
        let version = ResourceVersion(status.object_resource_version);
        self.by_node.entry(node.to_owned()).or_default().insert(uid.to_owned(), Record { key, version });
    }

    pub(super) fn gone(&mut self, name: &str) {
        let Some((node, uid)) = split_name(name) else { return };
        if let Some(objects) = self.by_node.get_mut(node) {
            objects.remove(uid);
            if objects.is_empty() {
                self.by_node.remove(node);
            }
        }
    }

    /// Uids of what is recorded under the name of another object, if nothing is recorded of that one yet: a node that took it has
    /// no other of its name.
    pub(super) fn replaced_by(&self, node: &str, key: &ObjectKey, uid: &str) -> Vec<String> {
        let Some(objects) = self.by_node.get(node).filter(|objects| !objects.contains_key(uid)) else {
            return Vec::new();
        };
        objects.iter().filter(|(_, record)| record.key == *key).map(|(uid, _)| uid.clone()).collect()
    }

    pub(super) fn nodes(&self) -> Vec<String> {
        self.by_node.keys().cloned().collect()
    }

    pub(super) fn of_node(&self, node: &str) -> Vec<(ObjectKey, String, ResourceVersion)> {
        let objects = self.by_node.get(node).into_iter().flatten();
        objects.map(|(uid, record)| (record.key.clone(), uid.clone(), record.version.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_by_node_and_name_their_object() {
        let mut records = Records::default();
        let meta = Meta { name: "edge.1.u-1".into(), namespace: Some("d".into()), ..Meta::default() };
        let object = serde_json::json!({"spec": {"objectAPIVersion": "v1", "objectKind": "ConfigMap", "objectName": "c"}, "status": {"objectResourceVersion": "7"}});
        records.put(&meta, &Json::encode(&object).unwrap());
        assert_eq!(
            records.of_node("edge.1"),
            [(ObjectKey::parse("d/configmap/c").unwrap(), "u-1".to_owned(), ResourceVersion("7".into()))]
        );
        let key = ObjectKey::parse("d/configmap/c").unwrap();
        assert_eq!(records.replaced_by("edge.1", &key, "u-2"), ["u-1"]);
        assert!(records.replaced_by("edge.1", &key, "u-1").is_empty());
        assert!(records.replaced_by("edge.2", &key, "u-2").is_empty());
        records.gone("edge.1.u-1");
        assert!(records.of_node("edge.1").is_empty());
    }
}
