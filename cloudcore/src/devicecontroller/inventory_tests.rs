use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn meta(name: &str, uid: &str) -> Meta {
    Meta {
        name: name.into(),
        namespace: Some("d".into()),
        uid: uid.into(),
        resource_version: "1".into(),
        deletion_timestamp: None,
    }
}

fn device(name: &str, uid: &str, node: &str, model: &str, label: &str) -> Arc<KnownDevice> {
    let reference = (!model.is_empty()).then(|| json!({"name": model}));
    let object = json!({
        "metadata": {"name": name, "namespace": "d", "uid": uid, "labels": {"description": label}},
        "spec": {"deviceModelRef": reference, "nodeName": node}
    });
    Arc::new(KnownDevice::read(&meta(name, uid), Json::encode(&object).unwrap()))
}

fn model(name: &str, uid: &str) -> Wanted {
    read_model(&meta(name, uid), Json::null())
}

fn names(told: &[(String, Notification)]) -> Vec<String> {
    told.iter()
        .map(|(node, told)| match told {
            Notification::Change(Change::EndSession) => format!("{node} ends"),
            Notification::Change(Change::Put(wanted)) => format!("{node} +{}", wanted.key),
            Notification::Change(Change::Remove { key, .. }) => format!("{node} -{key}"),
            Notification::Joined(entry) => format!("{node} joins {}", entry.id),
            Notification::Left(entry) => format!("{node} leaves {}", entry.id),
        })
        .collect()
}

#[test]
fn a_device_brings_its_model_whichever_came_first_and_takes_it_when_it_moves() {
    let mut inventory = Inventory::default();
    let (told, new) = inventory.put_device(device("t1", "u", "e1", "m", "x"));
    assert_eq!(names(&told), ["e1 joins d/t1", "e1 +d/device/t1"]);
    assert!(new);
    assert_eq!(names(&inventory.put_model(model("m", "m"))), ["e1 +d/devicemodel/m"]);
    let (told, _) = inventory.put_device(device("t1", "u", "e1", "m", "changed label"));
    assert!(told.is_empty());
    let (told, _) = inventory.put_device(device("t1", "u", "e2", "m", "x"));
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
    assert_eq!(inventory.set_of("e1").len(), 0);
    assert_eq!(inventory.set_of("e2").len(), 2);
    let told = inventory.device_gone(&meta("t1", "u"));
    assert_eq!(names(&told), ["e2 leaves d/t1", "e2 -d/device/t1", "e2 -d/devicemodel/m"]);
}

#[test]
fn a_device_that_changes_its_model_takes_the_old_one_from_the_node_unless_another_uses_it() {
    let mut inventory = Inventory::default();
    inventory.put_model(model("m", "m"));
    inventory.put_model(model("n", "n"));
    inventory.put_device(device("t1", "u", "e1", "m", ""));
    inventory.put_device(device("t2", "u", "e1", "m", ""));
    let (told, _) = inventory.put_device(device("t1", "u", "e1", "n", ""));
    assert_eq!(names(&told), ["e1 +d/devicemodel/n", "e1 +d/device/t1"]);
    let (told, _) = inventory.put_device(device("t2", "u", "e1", "n", ""));
    assert_eq!(names(&told), ["e1 +d/devicemodel/n", "e1 +d/device/t2", "e1 -d/devicemodel/m"]);
}

#[test]
fn a_device_made_anew_leaves_and_joins_and_keeps_its_model() {
    let mut inventory = Inventory::default();
    inventory.put_model(model("m", "m"));
    inventory.put_device(device("t1", "first", "e1", "m", ""));
    let (told, new) = inventory.put_device(device("t1", "second", "e1", "m", ""));
    let expected =
        ["e1 leaves d/t1", "e1 -d/device/t1", "e1 joins d/t1", "e1 +d/devicemodel/m", "e1 +d/device/t1"];
    assert_eq!(names(&told), expected);
    assert!(!new);
    assert!(inventory.device_gone(&meta("t1", "first")).is_empty(), "it is another one now");
}

/// Some change by somebody.
#[derive(Clone, Debug)]
enum Step {
    PutDevice { name: usize, uid: usize, node: usize, model: usize },
    DeviceGone { name: usize, uid: usize },
    PutModel { name: usize, uid: usize },
    ModelGone { name: usize, uid: usize },
}

const DEVICES: [&str; 4] = ["a", "b", "c", "f"];
const UIDS: [&str; 2] = ["u1", "u2"];
const NODES: [&str; 4] = ["", "e1", "e2", "e3"];
const MODELS: [&str; 4] = ["", "m1", "m2", "m3"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..4_usize, 0..2_usize, 0..4_usize, 0..4_usize)
            .prop_map(|(name, uid, node, model)| Step::PutDevice { name, uid, node, model }),
        2 => (0..4_usize, 0..2_usize).prop_map(|(name, uid)| Step::DeviceGone { name, uid }),
        2 => (1..4_usize, 0..2_usize).prop_map(|(name, uid)| Step::PutModel { name, uid }),
        1 => (1..4_usize, 0..2_usize).prop_map(|(name, uid)| Step::ModelGone { name, uid }),
    ]
}

/// What there is, searched from end to end at each question.
#[derive(Default)]
struct Naive {
    /// Name -> (uid, node, model).
    devices: BTreeMap<&'static str, (&'static str, &'static str, &'static str)>,
    models: BTreeMap<&'static str, &'static str>,
}

impl Naive {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::PutDevice { name, uid, node, model } => {
                self.devices.insert(DEVICES[name], (UIDS[uid], NODES[node], MODELS[model]));
            }
            Step::DeviceGone { name, uid } => {
                self.devices.retain(|known, (its, ..)| *known != DEVICES[name] || *its != UIDS[uid]);
            }
            Step::PutModel { name, uid } => {
                self.models.insert(MODELS[name], UIDS[uid]);
            }
            Step::ModelGone { name, uid } => {
                self.models.retain(|known, its| *known != MODELS[name] || *its != UIDS[uid]);
            }
        }
    }

    fn objects_of(&self, node: &str) -> BTreeSet<String> {
        let here = self.devices.iter().filter(|(_, (_, at, _))| *at == node);
        here.flat_map(|(name, (_, _, model))| {
            let model = self.models.contains_key(model).then(|| format!("d/devicemodel/{model}"));
            model.into_iter().chain([format!("d/device/{name}")])
        })
        .collect()
    }

    fn members_of(&self, node: &str) -> BTreeSet<String> {
        let here = self.devices.iter().filter(|(_, (_, at, _))| *at == node);
        here.map(|(name, _)| format!("d/{name}")).collect()
    }

    fn nodes_using(&self, model: &str) -> Vec<String> {
        let users = self.devices.values().filter(|(_, node, its)| *its == model && !node.is_empty());
        users.map(|(_, node, _)| (*node).to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

fn take(inventory: &mut Inventory, step: &Step) -> Vec<(String, Notification)> {
    match *step {
        Step::PutDevice { name, uid, node, model } => {
            inventory.put_device(device(DEVICES[name], UIDS[uid], NODES[node], MODELS[model], "")).0
        }
        Step::DeviceGone { name, uid } => inventory.device_gone(&meta(DEVICES[name], UIDS[uid])),
        Step::PutModel { name, uid } => inventory.put_model(model(MODELS[name], UIDS[uid])),
        Step::ModelGone { name, uid } => inventory.model_gone(&meta(MODELS[name], UIDS[uid]), Json::null()),
    }
}

/// What nodes hold that did as they were told.
#[derive(Default)]
struct Nodes {
    objects: BTreeMap<String, BTreeSet<String>>,
    members: BTreeMap<String, BTreeSet<String>>,
}

impl Nodes {
    fn hear(&mut self, told: Vec<(String, Notification)>) {
        for (node, told) in told {
            let objects = self.objects.entry(node.clone()).or_default();
            let members = self.members.entry(node).or_default();
            match told {
                Notification::Change(Change::Put(wanted)) => drop(objects.insert(wanted.key.to_string())),
                Notification::Change(Change::Remove { key, .. }) => drop(objects.remove(&key.to_string())),
                Notification::Change(Change::EndSession) => unreachable!("devices end no session"),
                Notification::Joined(entry) => drop(members.insert(entry.id)),
                Notification::Left(entry) => drop(members.remove(&entry.id)),
            }
        }
    }
}

proptest! {
    #[test]
    fn sets_users_and_what_nodes_are_told_agree_with_a_search_of_everything(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let (mut inventory, mut naive, mut nodes) =
            (Inventory::default(), Naive::default(), Nodes::default());
        for step in &steps {
            naive.take(step);
            nodes.hear(take(&mut inventory, step));
            for node in &NODES[1..] {
                let keys: Vec<String> = inventory.set_of(node).iter().map(|wanted| wanted.key.to_string()).collect();
                let objects: BTreeSet<String> = keys.iter().cloned().collect();
                prop_assert_eq!(keys.len(), objects.len(), "nothing is there twice");
                prop_assert_eq!(&objects, &naive.objects_of(node));
                prop_assert_eq!(&objects, nodes.objects.entry((*node).to_owned()).or_default());
                let members: BTreeSet<String> = inventory.members_of(node).into_iter().map(|entry| entry.id).collect();
                prop_assert_eq!(&members, &naive.members_of(node));
                prop_assert_eq!(&members, nodes.members.entry((*node).to_owned()).or_default());
            }
            for model in &MODELS[1..] {
                let key = ObjectKey::new(Some("d"), ObjectKind::DeviceModel, model);
                let users: Vec<String> = inventory.index.nodes_using(&key).cloned().collect();
                prop_assert_eq!(users, naive.nodes_using(model));
            }
        }
        for name in DEVICES {
            for uid in UIDS {
                inventory.device_gone(&meta(name, uid));
            }
        }
        prop_assert!(inventory.index.is_empty(), "{:?}", inventory.index);
    }
}
