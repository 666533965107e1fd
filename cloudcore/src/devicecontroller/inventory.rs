//! Devices, their models and their nodes. Pure.

use std::collections::HashMap;

use api::devices::Device;
use message::{Json, MembershipEntry, ObjectKey, ObjectKind, ResourceVersion};

use crate::desired::{Change, Wanted};
use crate::kubernetes::Meta;

/// What a node must hear.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Change(Change),
    Joined(MembershipEntry),
    Left(MembershipEntry),
}

#[derive(Debug, Clone)]
pub(super) struct Known {
    pub wanted: Wanted,
    pub device: Device,
}

impl Known {
    fn model_key(&self) -> Option<ObjectKey> {
        let name = &self.device.spec.device_model_ref.as_ref()?.name;
        Some(ObjectKey::new(self.wanted.key.namespace.as_deref(), ObjectKind::DeviceModel, name))
    }

    fn member(&self) -> MembershipEntry {
        MembershipEntry {
            id: self.device.id(),
            name: self.device.metadata.name.clone(),
            description: self.device.metadata.labels.get("description").cloned().unwrap_or_default(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Inventory {
    devices: HashMap<ObjectKey, Known>,
    models: HashMap<ObjectKey, Wanted>,
}

impl Inventory {
    /// The mark of a device or model as it was seen last.
    pub fn mark_of(&self, key: &ObjectKey) -> Option<u64> {
        let device = self.devices.get(key).map(|known| &known.wanted);
        device.or_else(|| self.models.get(key)).map(|wanted| wanted.mark)
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<&Known> {
        self.devices.get(&ObjectKey::new(Some(namespace), ObjectKind::Device, name))
    }

    /// Models and devices of `node`, and the members they make.
    pub fn set_of(&self, node: &str) -> (Vec<Wanted>, Vec<MembershipEntry>) {
        let mut set = Vec::new();
        let mut members = Vec::new();
        for known in self.devices.values().filter(|known| known.device.spec.node_name == node) {
            set.extend(known.model_key().and_then(|key| self.models.get(&key)).cloned());
            set.push(known.wanted.clone());
            members.push(known.member());
        }
        (set, members)
    }

    /// A device was created or changed. `new` in the result: it needs its DeviceStatus.
    pub fn put_device(&mut self, meta: &Meta, object: Json) -> (Vec<(String, Told)>, bool) {
        let device: Device = object.parse().unwrap_or_default();
        let key = ObjectKey::new(meta.namespace.as_deref(), ObjectKind::Device, &meta.name);
        let version = ResourceVersion(meta.resource_version.clone());
        let mark = native::mark(&object);
        let wanted = Wanted { key: key.clone(), uid: meta.uid.clone(), version, mark, object };
        let known = Known { wanted, device };
        let previous = self.devices.insert(key, known.clone());
        let node = known.device.spec.node_name.clone();
        let mut told = Vec::new();
        let mut moved = true;
        if let Some(old) = &previous {
            moved = old.device.spec.node_name != node || old.wanted.uid != known.wanted.uid;
            // Labels, annotations and status are not the edge's business.
            if !moved && old.device.spec == known.device.spec {
                return (Vec::new(), false);
            }
            if moved {
                told.extend(self.leave(old, known.wanted.uid != old.wanted.uid));
            }
        }
        if !node.is_empty() {
            if moved {
                told.push((node.clone(), Told::Joined(known.member())));
            }
            let model = known.model_key().and_then(|key| self.models.get(&key)).cloned();
            told.extend(model.map(|model| (node.clone(), Told::Change(Change::Put(model)))));
            told.push((node, Told::Change(Change::Put(known.wanted))));
        }
        (told, previous.is_none())
    }

    pub fn device_gone(&mut self, meta: &Meta) -> Vec<(String, Told)> {
        let key = ObjectKey::new(meta.namespace.as_deref(), ObjectKind::Device, &meta.name);
        if self.devices.get(&key).is_none_or(|known| known.wanted.uid != meta.uid) {
            return Vec::new();
        }
        match self.devices.remove(&key) {
            Some(old) => self.leave(&old, true),
            None => Vec::new(),
        }
    }

    /// A model was created or changed: every node with a device of it hears (KubeEdge sends nothing here).
    pub fn put_model(&mut self, meta: &Meta, object: Json) -> Vec<(String, Told)> {
        let key = ObjectKey::new(meta.namespace.as_deref(), ObjectKind::DeviceModel, &meta.name);
        let version = ResourceVersion(meta.resource_version.clone());
        let mark = native::mark(&object);
        let wanted = Wanted { key: key.clone(), uid: meta.uid.clone(), version, mark, object };
        self.models.insert(key.clone(), wanted.clone());
        self.nodes_using(&key)
            .into_iter()
            .map(|node| (node, Told::Change(Change::Put(wanted.clone()))))
            .collect()
    }

    pub fn model_gone(&mut self, meta: &Meta, object: Json) -> Vec<(String, Told)> {
        let key = ObjectKey::new(meta.namespace.as_deref(), ObjectKind::DeviceModel, &meta.name);
        if self.models.get(&key).is_none_or(|model| model.uid != meta.uid) {
            return Vec::new();
        }
        self.models.remove(&key);
        let change = Change::Remove { key: key.clone(), uid: meta.uid.clone(), object, may_return: false };
        self.nodes_using(&key).into_iter().map(|node| (node, Told::Change(change.clone()))).collect()
    }

    fn nodes_using(&self, model: &ObjectKey) -> Vec<String> {
        let mut nodes: Vec<String> = self
            .devices
            .values()
            .filter(|known| {
                known.model_key().as_ref() == Some(model) && !known.device.spec.node_name.is_empty()
            })
            .map(|known| known.device.spec.node_name.clone())
            .collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }

    /// What the node of a device that left must hear; its model goes with its last device.
    fn leave(&self, old: &Known, gone: bool) -> Vec<(String, Told)> {
        let node = old.device.spec.node_name.clone();
        if node.is_empty() {
            return Vec::new();
        }
        let removal = |wanted: &Wanted, may_return: bool| {
            let (key, uid, object) = (wanted.key.clone(), wanted.uid.clone(), wanted.object.clone());
            Told::Change(Change::Remove { key, uid, object, may_return })
        };
        let mut told =
            vec![(node.clone(), Told::Left(old.member())), (node.clone(), removal(&old.wanted, !gone))];
        if let Some(key) = old.model_key()
            && !self.nodes_using(&key).contains(&node)
            && let Some(model) = self.models.get(&key)
        {
            told.push((node, removal(model, true)));
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn meta(name: &str, version: &str) -> Meta {
        Meta {
            name: name.into(),
            namespace: Some("d".into()),
            uid: format!("{name}-uid"),
            resource_version: version.into(),
            deletion_timestamp: None,
        }
    }

    fn device(node: &str, label: &str) -> Json {
        let object = json!({
            "metadata": {"name": "t1", "namespace": "d", "uid": "t1-uid", "labels": {"description": label}},
            "spec": {"deviceModelRef": {"name": "m"}, "nodeName": node}
        });
        Json::encode(&object).unwrap()
    }

    fn names(told: &[(String, Told)]) -> Vec<String> {
        told.iter()
            .map(|(node, told)| match told {
                Told::Change(Change::EndSession) => format!("{node} ends"),
                Told::Change(Change::Put(wanted)) => format!("{node} +{}", wanted.key),
                Told::Change(Change::Remove { key, .. }) => format!("{node} -{key}"),
                Told::Joined(entry) => format!("{node} joins {}", entry.id),
                Told::Left(entry) => format!("{node} leaves {}", entry.id),
            })
            .collect()
    }

    #[test]
    fn a_device_brings_its_model_whichever_came_first_and_takes_it_when_it_moves() {
        let mut inventory = Inventory::default();
        let (told, new) = inventory.put_device(&meta("t1", "1"), device("e1", "x"));
        assert_eq!(names(&told), ["e1 joins d/t1", "e1 +d/device/t1"]);
        assert!(new);
        assert_eq!(names(&inventory.put_model(&meta("m", "2"), Json::null())), ["e1 +d/devicemodel/m"]);
        let (told, _) = inventory.put_device(&meta("t1", "3"), device("e1", "changed label"));
        assert!(told.is_empty());
        let (told, _) = inventory.put_device(&meta("t1", "4"), device("e2", "x"));
        assert_eq!(
            names(&told),
            [
                "e1 leaves d/t1",
                "e1 -d/device/t1",
                "e1 -d/devicemodel/m",
                "e2 joins d/t1",
                "e2 +d/devicemodel/m",
                "e2 +d/device/t1"
            ]
        );
        assert_eq!(inventory.set_of("e1").0.len(), 0);
        assert_eq!(inventory.set_of("e2").0.len(), 2);
        let told = inventory.device_gone(&meta("t1", "5"));
        assert_eq!(names(&told), ["e2 leaves d/t1", "e2 -d/device/t1", "e2 -d/devicemodel/m"]);
    }
}
