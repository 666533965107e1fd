//! Which objects belong on which node: pods by `spec.nodeName`, and the config maps and secrets they refer to. Pure.
//! Volume claims are referred to as well, but not sent: nodes ask for them.
//!
//! The text of a config map or secret is fetched when a node begins to have a use for it, and again when it is to be sent and
//! has left memory meanwhile.
//!
//! References are counted per node, so that a node stops hearing of a config map when its last pod that used it is
//! gone (better than KubeEdge, docs/protocol/edge-runtime.md 1.2). The same graph answers what a node may read.

mod bodies;
mod pod_view;

use std::collections::{BTreeSet, HashMap, VecDeque};

use message::{Json, ObjectKey, ObjectKind, ResourceVersion};

use super::{Change, Wanted};
use crate::kubernetes::{Meta, identity};
use bodies::Bodies;
use pod_view::{MIRROR, PodView};

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
#[derive(Debug)]
pub struct Placement {
    pods: HashMap<ObjectKey, Pod>,
    /// Config maps, secrets and nodes.
    objects: Bodies,
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

/// An object as a watch told of it, read and hashed before the graph is locked.
#[derive(Debug)]
pub struct Arrived {
    wanted: Wanted,
    /// Of pods.
    facts: Option<PodFacts>,
}

#[derive(Debug)]
struct PodFacts {
    node: String,
    service_account: String,
    references: Box<[(ObjectKey, bool)]>,
}

impl Arrived {
    pub fn read(kind: ObjectKind, meta: &Meta, object: Json) -> Arrived {
        let key = key_of(kind, meta);
        let facts = (key.kind == ObjectKind::Pod).then(|| {
            let view = PodView::of(&object);
            PodFacts {
                node: view.node().to_owned(),
                service_account: view.service_account().to_owned(),
                references: view.references(&key).0.into_iter().collect(),
            }
        });
        let version = ResourceVersion(meta.resource_version.clone());
        let mark = native::mark(&object);
        Arrived { wanted: Wanted { key, uid: meta.uid.clone(), version, mark, object: object.into() }, facts }
    }
}

fn key_of(kind: ObjectKind, meta: &Meta) -> ObjectKey {
    let namespace = meta.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    ObjectKey::new(namespace, kind, &meta.name)
}

/// Bytes of texts of config maps and secrets in memory: the last that came, from which differences are made. What went is
/// fetched when it is to be sent.
const TEXTS: usize = 16 * 1024 * 1024;

/// Pods that went and are remembered: a node that is drained at once, many times over.
const LEFT: usize = 4096;

impl Default for Placement {
    fn default() -> Placement {
        Placement::with_texts(TEXTS)
    }
}

impl Placement {
    /// A graph that holds texts of at most so many bytes.
    pub fn with_texts(limit: usize) -> Placement {
        Placement {
            pods: HashMap::new(),
            objects: Bodies::new(limit),
            referrers: HashMap::new(),
            by_node: HashMap::new(),
            left: VecDeque::new(),
        }
    }

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
        self.pods.get(key).map(|pod| pod.wanted.mark).or_else(|| self.objects.mark_of(key))
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
        pods.filter(|pod| pod.wanted.object.here().is_some_and(|text| text.text().contains(MIRROR))).count()
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
    pub fn put(&mut self, Arrived { wanted, facts }: Arrived) -> Vec<(String, Change)> {
        if let Some(facts) = facts {
            return self.put_pod(facts, wanted);
        }
        let is_node = wanted.key.kind == ObjectKind::Node;
        let is_used = is_node || self.referrers.contains_key(&wanted.key);
        // What nodes hold already stays as it was sent: a heartbeat, a touched annotation of a controller and a write
        // that changed nothing are nobody's news.
        if !self.objects.put(&wanted, is_used) {
            return Vec::new();
        }
        let nodes = if is_node { vec![wanted.key.name.clone()] } else { self.nodes_of(&wanted.key) };
        nodes.into_iter().map(|node| (node, Change::Put(wanted.clone()))).collect()
    }

    /// Objects whose text is to be fetched: nodes have a use for them, and it is not here.
    pub fn missing(&self) -> impl Iterator<Item = &ObjectKey> {
        self.objects.missing()
    }

    /// `node` is to be sent the text of an object, and it was not here. Returns what the node must hear: the object again
    /// if its text is here by now; else it is missing.
    pub fn want(&mut self, node: &str, key: &ObjectKey) -> Vec<(String, Change)> {
        let wanted = self.objects.want(key).cloned();
        wanted.map(|wanted| (node.to_owned(), Change::Put(wanted))).into_iter().collect()
    }

    pub fn is_missing(&self, key: &ObjectKey) -> bool {
        self.objects.is_missing(key)
    }

    pub fn is_any_missing(&self) -> bool {
        self.objects.is_any_missing()
    }

    /// The API server's answer to the question for the text of one of [`Placement::missing`]. Returns what nodes must hear.
    pub fn fetched(&mut self, Arrived { wanted, .. }: Arrived) -> Vec<(String, Change)> {
        let Some((wanted, replaced)) = self.objects.fetched(wanted) else { return Vec::new() };
        let mut changes = Vec::new();
        for node in self.nodes_of(&wanted.key) {
            changes.push((node.clone(), Change::Put(wanted.clone())));
            if let Some(uid) = &replaced {
                let (key, object) = (wanted.key.clone(), identity(&wanted.key, uid));
                changes.push((node, Change::Remove { key, uid: uid.clone(), object, may_return: false }));
            }
        }
        changes
    }

    /// Nodes whose pods refer to the object.
    fn nodes_of(&self, key: &ObjectKey) -> Vec<String> {
        self.referrers.get(key).map(|nodes| nodes.keys().cloned().collect()).unwrap_or_default()
    }

    /// An object is gone.
    pub fn gone(&mut self, kind: ObjectKind, meta: &Meta, object: Json) -> Vec<(String, Change)> {
        let key = key_of(kind, meta);
        if key.kind == ObjectKind::Pod {
            return self.pod_gone(&key, &meta.uid, object);
        }
        let current = self.objects.gone(&key, &meta.uid);
        // A node object is never taken from its node: the session ends instead.
        if key.kind == ObjectKind::Node {
            return if current { vec![(key.name, Change::EndSession)] } else { Vec::new() };
        }
        let nodes = self.nodes_of(&key);
        let change = Change::Remove { key, uid: meta.uid.clone(), object, may_return: false };
        nodes.into_iter().map(|node| (node, change.clone())).collect()
    }

    fn put_pod(&mut self, facts: PodFacts, wanted: Wanted) -> Vec<(String, Change)> {
        let PodFacts { node, service_account, references } = facts;
        if node.is_empty() {
            return Vec::new();
        }
        let key = wanted.key.clone();
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
            service_account,
            references,
            wanted: wanted.clone(),
        };
        let mut changes = Vec::new();
        for (reference, _) in &pod.references {
            let nodes = self.referrers.entry(reference.clone()).or_default();
            *nodes.entry(node.clone()).or_default() += 1;
            if nodes[&node] == 1
                && let Some(referred) = self.objects.begin_use(reference)
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
                if let Some(uid) = self.objects.uid_of(reference) {
                    // Only the identity: a node that has no use for a secret need not see it once more.
                    let (key, object) = (reference.clone(), identity(reference, &uid));
                    changes.push((pod.node.clone(), Change::Remove { key, uid, object, may_return: true }));
                }
            }
            if nodes.is_empty() {
                self.referrers.remove(reference);
                self.objects.end_use(reference);
            }
        }
        changes
    }
}

/// True if a node that has `known` need not hear of `new`.
fn is_same(known: &Wanted, new: &Wanted) -> bool {
    known.uid == new.uid && known.mark == new.mark
}

#[cfg(test)]
mod tests;
