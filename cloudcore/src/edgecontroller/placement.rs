//! Which objects belong on which node: pods by `spec.nodeName`, and the config maps and secrets they refer to. Pure.
//! Volume claims are referred to as well, but not sent: nodes ask for them.
//!
//! References are counted per node, so that a node stops hearing of a config map when its last pod that used it is
//! gone (better than KubeEdge, docs/protocol/edge-runtime.md 1.2). The same graph answers what a node may read.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use message::{Json, ObjectKey, ObjectKind, ResourceVersion};
use serde_json::Value;

use crate::cloudhub::{NodeSet, Wanted};
use crate::kubernetes::{Meta, identity};

/// Something a node's desired set must hear.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Put(Wanted),
    /// `may_return`: the object still exists, only this node has no use for it now.
    Remove {
        key: ObjectKey,
        uid: String,
        object: Json,
        may_return: bool,
    },
    /// The node object is gone.
    EndSession,
}

impl Change {
    /// Tells a connected node.
    pub fn apply_to(self, set: &NodeSet) {
        match self {
            Change::Put(wanted) => set.with(|desired| desired.put(wanted)),
            Change::Remove { key, uid, object, may_return } => {
                set.with(|desired| desired.remove(&key, &uid, object, may_return));
            }
            Change::EndSession => set.end_deleted(),
        }
    }
}

#[derive(Debug)]
struct Pod {
    uid: String,
    node: String,
    service_account: String,
    /// What it refers to, and whether it needs it: without what is optional it starts as well.
    references: Box<[(ObjectKey, bool)]>,
    wanted: Wanted,
}

/// The graph.
#[derive(Debug, Default)]
pub struct Placement {
    pods: HashMap<ObjectKey, Pod>,
    /// Config maps, secrets and nodes.
    objects: HashMap<ObjectKey, Wanted>,
    /// referred object -> node -> number of pods there that refer to it
    referrers: HashMap<ObjectKey, HashMap<String, usize>>,
    /// Pods of a node, each once.
    by_node: HashMap<String, Vec<ObjectKey>>,
    /// Pods that went last, oldest first: their nodes still have events to tell of them.
    left: VecDeque<Left>,
}

#[derive(Debug)]
struct Left {
    node: String,
    key: ObjectKey,
    uid: String,
}

/// Pods that went and are remembered: a node that is drained at once, many times over.
const LEFT: usize = 4096;

impl Placement {
    /// Everything `node` should have now.
    pub fn set_of(&self, node: &str) -> Vec<Wanted> {
        let mut set: Vec<Wanted> = Vec::new();
        set.extend(self.objects.get(&ObjectKey::new(None, ObjectKind::Node, node)).cloned());
        let pods = self.by_node.get(node).into_iter().flatten().filter_map(|key| self.pods.get(key));
        let mut referred = BTreeSet::new();
        for pod in pods {
            referred.extend(pod.references.iter().map(|(key, _)| key));
            set.push(pod.wanted.clone());
        }
        set.extend(referred.into_iter().filter_map(|key| self.objects.get(key)).cloned());
        set
    }

    /// The mark of an object as it was seen last, wherever it belongs.
    pub fn mark_of(&self, key: &ObjectKey) -> Option<u64> {
        let pod = self.pods.get(key).map(|pod| &pod.wanted);
        pod.or_else(|| self.objects.get(key)).map(|wanted| wanted.mark)
    }

    /// True if a pod of `node` refers to the config map, secret or volume claim.
    pub fn may_read(&self, node: &str, key: &ObjectKey) -> bool {
        self.referrers.get(key).is_some_and(|nodes| nodes.contains_key(node))
    }

    /// True if a pod of `node` cannot start without the config map or secret.
    pub fn is_needed(&self, node: &str, key: &ObjectKey) -> bool {
        let pods = self.by_node.get(node).into_iter().flatten().filter_map(|pod| self.pods.get(pod));
        pods.flat_map(|pod| &*pod.references).any(|(reference, needed)| *needed && reference == key)
    }

    /// Pods of `node` that show one from a file.
    pub fn mirrors_of(&self, node: &str) -> usize {
        let pods = self.by_node.get(node).into_iter().flatten().filter_map(|key| self.pods.get(key));
        pods.filter(|pod| pod.wanted.object.text().contains(MIRROR)).count()
    }

    /// True if the pod runs on `node`.
    pub fn owns_pod(&self, node: &str, namespace: &str, name: &str) -> bool {
        let key = ObjectKey::new(Some(namespace), ObjectKind::Pod, name);
        self.pods.get(&key).is_some_and(|pod| pod.node == node)
    }

    /// True if the pod of that uid ran on `node` and went lately.
    pub fn has_left(&self, node: &str, namespace: &str, name: &str, uid: &str) -> bool {
        let key = ObjectKey::new(Some(namespace), ObjectKind::Pod, name);
        self.left.iter().rev().any(|left| left.uid == uid && left.node == node && left.key == key)
    }

    /// True if the pod of that name and uid runs on `node` under that service account.
    pub fn may_mint(&self, node: &str, namespace: &str, service_account: &str, pod: &str, uid: &str) -> bool {
        let key = ObjectKey::new(Some(namespace), ObjectKind::Pod, pod);
        self.pods
            .get(&key)
            .is_some_and(|pod| pod.node == node && pod.uid == uid && pod.service_account == service_account)
    }

    /// An object was created or changed. Returns what nodes must hear.
    pub fn put(&mut self, kind: ObjectKind, meta: &Meta, object: Json) -> Vec<(String, Change)> {
        let namespace = meta.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        let key = ObjectKey::new(namespace, kind, &meta.name);
        let version = ResourceVersion(meta.resource_version.clone());
        let mark = native::mark(&object);
        let wanted = Wanted { key: key.clone(), uid: meta.uid.clone(), version, mark, object };
        match key.kind {
            ObjectKind::Pod => self.put_pod(key, wanted),
            // What nodes hold already stays as it was sent: a heartbeat, a touched annotation of a controller and a
            // write that changed nothing are nobody's news.
            _ if self.objects.get(&key).is_some_and(|known| is_same(known, &wanted)) => Vec::new(),
            ObjectKind::Node => self.put_node(key, wanted),
            _ => {
                let nodes: Vec<String> =
                    self.referrers.get(&key).map(|nodes| nodes.keys().cloned().collect()).unwrap_or_default();
                self.objects.insert(key, wanted.clone());
                nodes.into_iter().map(|node| (node, Change::Put(wanted.clone()))).collect()
            }
        }
    }

    /// An object is gone.
    pub fn gone(&mut self, kind: ObjectKind, meta: &Meta, object: Json) -> Vec<(String, Change)> {
        let namespace = meta.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        let key = ObjectKey::new(namespace, kind, &meta.name);
        if key.kind == ObjectKind::Pod {
            return self.pod_gone(&key, &meta.uid, object);
        }
        let current = self.objects.get(&key).is_some_and(|stored| stored.uid == meta.uid);
        if current {
            self.objects.remove(&key);
        }
        // A node object is never taken from its node: the session ends instead.
        if key.kind == ObjectKind::Node {
            return if current { vec![(key.name, Change::EndSession)] } else { Vec::new() };
        }
        let nodes: Vec<String> =
            self.referrers.get(&key).map(|nodes| nodes.keys().cloned().collect()).unwrap_or_default();
        let change = Change::Remove { key, uid: meta.uid.clone(), object, may_return: false };
        nodes.into_iter().map(|node| (node, change.clone())).collect()
    }

    fn put_node(&mut self, key: ObjectKey, wanted: Wanted) -> Vec<(String, Change)> {
        let node = key.name.clone();
        self.objects.insert(key, wanted.clone());
        vec![(node, Change::Put(wanted))]
    }

    fn put_pod(&mut self, key: ObjectKey, wanted: Wanted) -> Vec<(String, Change)> {
        let view = PodView::of(&wanted.object);
        let node = view.node().to_owned();
        if node.is_empty() {
            return Vec::new();
        }
        let sent = self.pods.get(&key).filter(|pod| pod.node == node).map(|pod| &pod.wanted);
        let unchanged = sent.is_some_and(|sent| is_same(sent, &wanted));
        // A node that lost its database is to learn from the newest text how far its pod had come: one that has ended
        // must not run again. To a node that has it, this text is the version it was sent.
        let wanted = match sent.filter(|_| unchanged) {
            Some(sent) => Wanted { object: wanted.object, ..sent.clone() },
            None => wanted,
        };
        let pod = Pod {
            uid: wanted.uid.clone(),
            node: node.clone(),
            service_account: view.service_account().to_owned(),
            references: view.references(&key).0.into_iter().collect(),
            wanted: wanted.clone(),
        };
        let mut changes = Vec::new();
        for (reference, _) in &pod.references {
            let nodes = self.referrers.entry(reference.clone()).or_default();
            *nodes.entry(node.clone()).or_default() += 1;
            if nodes[&node] == 1
                && let Some(referred) = self.objects.get(reference)
            {
                changes.push((node.clone(), Change::Put(referred.clone())));
            }
        }
        let pods = self.by_node.entry(node.clone()).or_default();
        if !pods.contains(&key) {
            pods.push(key.clone());
        }
        let previous = self.pods.insert(key, pod);
        if let Some(old) = previous {
            changes.extend(self.release(&old));
        }
        if !unchanged {
            changes.push((node, Change::Put(wanted)));
        }
        changes
    }

    fn pod_gone(&mut self, key: &ObjectKey, uid: &str, object: Json) -> Vec<(String, Change)> {
        if self.pods.get(key).is_none_or(|pod| pod.uid != uid) {
            return Vec::new();
        }
        let Some(pod) = self.pods.remove(key) else { return Vec::new() };
        if let Some(keys) = self.by_node.get_mut(&pod.node) {
            keys.retain(|other| other != key);
            if keys.is_empty() {
                self.by_node.remove(&pod.node);
            }
        }
        if self.left.len() == LEFT {
            self.left.pop_front();
        }
        self.left.push_back(Left { node: pod.node.clone(), key: key.clone(), uid: uid.to_owned() });
        let removal = Change::Remove { key: key.clone(), uid: uid.to_owned(), object, may_return: false };
        let mut changes = vec![(pod.node.clone(), removal)];
        changes.extend(self.release(&pod));
        changes
    }

    /// Takes back the references of a pod. What its node no longer refers to is taken from the node as well, so that
    /// no secret outlives its pods there.
    fn release(&mut self, pod: &Pod) -> Vec<(String, Change)> {
        let mut changes = Vec::new();
        for (reference, _) in &pod.references {
            let Some(nodes) = self.referrers.get_mut(reference) else { continue };
            if let Some(count) = nodes.get_mut(&pod.node) {
                *count -= 1;
                if *count > 0 {
                    continue;
                }
                nodes.remove(&pod.node);
                if let Some(referred) = self.objects.get(reference) {
                    // Only the identity: a node that has no use for a secret need not see it once more.
                    let object = identity(&referred.key, &referred.uid);
                    let (key, uid) = (referred.key.clone(), referred.uid.clone());
                    changes.push((pod.node.clone(), Change::Remove { key, uid, object, may_return: true }));
                }
            }
            if nodes.is_empty() {
                self.referrers.remove(reference);
            }
        }
        changes
    }
}

/// True if a node that has `known` need not hear of `new`.
fn is_same(known: &Wanted, new: &Wanted) -> bool {
    known.uid == new.uid && known.mark == new.mark
}

/// A pod as it is read here: what is missing, null or of another type is not there. The API server may hold such pods, and
/// their nodes have to hear of them.
struct PodView(Value);

/// On pods that a node made from its own files: they lead to nothing of the cluster.
const MIRROR: &str = "kubernetes.io/config.mirror";

impl PodView {
    fn of(object: &Json) -> PodView {
        PodView(object.parse().unwrap_or_default())
    }

    fn node(&self) -> &str {
        self.0["spec"]["nodeName"].as_str().unwrap_or_default()
    }

    fn is_mirror(&self) -> bool {
        self.0["metadata"]["annotations"].get(MIRROR).is_some()
    }

    /// Whose tokens it may have; none for a mirror.
    fn service_account(&self) -> &str {
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
    fn references(&self, pod: &ObjectKey) -> References {
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
struct References(BTreeMap<ObjectKey, bool>);

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

#[cfg(test)]
mod tests;
