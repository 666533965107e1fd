//! What is on which node: pods, and what they refer to. Nodes are given rights by it.
//!
//! Kept by storage's commit hook, in commit order: a node may read what a pod needs as soon as the pod's binding is answered, and not
//! any more once the pod is gone.

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock};

use apimachinery::object::{at, text};
use apimachinery::pod::references::{self, References};
use apimachinery::traits::Traits;
use kubeapi::stored::{EventKind, Stored};

pub(crate) const PODS: &str = "pods";
const VOLUMES: &str = "persistentvolumes";
const ATTACHMENTS: &str = "volumeattachments.storage.k8s.io";
/// The keys of what it follows.
pub(crate) const FOLLOWED: [&str; 3] = [PODS, VOLUMES, ATTACHMENTS];
/// What the mirror of a static pod refers to is nothing that the node gets from here.
const MIRROR: &str = "kubernetes.io/config.mirror";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Pod,
    Secret,
    ConfigMap,
    Claim,
    Volume,
    Account,
    ResourceClaim,
    Attachment,
}

/// Namespace and name.
type Place = (String, String);

#[derive(Default)]
struct Volume {
    claim: Place,
    secrets: HashSet<Place>,
}

#[derive(Default)]
struct Known {
    nodes: HashMap<String, HashMap<Place, References>>,
    pods: HashMap<Place, String>,
    volumes: HashMap<String, Volume>,
    attachments: HashMap<String, String>,
}

#[derive(Default)]
pub(crate) struct Graph(RwLock<Known>);

impl Graph {
    /// Takes note of an object as it is after a change.
    pub(crate) fn hear(&self, stored: &Stored, change: EventKind, traits: &Traits) {
        let key = &stored.key;
        let is_gone = change == EventKind::Deleted;
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match key.resource.as_str() {
            PODS => known.pod(stored, is_gone, traits),
            VOLUMES => match stored.value().ok().filter(|_| !is_gone) {
                None => drop(known.volumes.remove(&key.name)),
                Some(volume) => {
                    let claim = &volume["spec"]["claimRef"];
                    let claim = (text(claim, "/namespace").to_owned(), text(claim, "/name").to_owned());
                    let secrets = references::secrets_of_volume(&volume).collect();
                    known.volumes.insert(key.name.clone(), Volume { claim, secrets });
                }
            },
            ATTACHMENTS => match stored.value().ok().filter(|_| !is_gone) {
                None => drop(known.attachments.remove(&key.name)),
                Some(one) => {
                    known.attachments.insert(key.name.clone(), text(&one, "/spec/nodeName").to_owned());
                }
            },
            _ => {}
        }
    }

    /// True if the object is on `node`, or a pod on it refers to it.
    pub(crate) fn relates(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if kind == Kind::Attachment {
            return known.attachments.get(name).is_some_and(|of| of == node);
        }
        let Some(pods) = known.nodes.get(node) else { return false };
        let refers = |namespace: &str, has: &dyn Fn(&References) -> bool| {
            pods.iter().any(|((of, _), references)| of == namespace && has(references))
        };
        let claims = |(namespace, name): &Place| refers(namespace, &|of| of.claims.contains(name));
        match kind {
            Kind::Pod => {
                known.pods.get(&(namespace.to_owned(), name.to_owned())).is_some_and(|of| of == node)
            }
            Kind::ConfigMap => refers(namespace, &|of| of.config_maps.contains(name)),
            Kind::Claim => refers(namespace, &|of| of.claims.contains(name)),
            Kind::ResourceClaim => refers(namespace, &|of| of.resource_claims.contains(name)),
            Kind::Account => refers(namespace, &|of| of.account == name),
            Kind::Volume => known.volumes.get(name).is_some_and(|volume| claims(&volume.claim)),
            Kind::Secret => {
                let place = (namespace.to_owned(), name.to_owned());
                refers(namespace, &|of| of.secrets.contains(name))
                    || known.volumes.values().any(|one| one.secrets.contains(&place) && claims(&one.claim))
            }
            Kind::Attachment => false,
        }
    }
}

impl Known {
    fn pod(&mut self, stored: &Stored, is_gone: bool, traits: &Traits) {
        let place = (stored.key.namespace.clone(), stored.key.name.clone());
        let node = traits.fields.get("spec.nodeName").map(String::as_str).unwrap_or_default();
        let known = self.pods.get(&place);
        let is_on = !is_gone && !node.is_empty();
        // What a pod refers to changes with its ephemeral containers alone; most changes are of its status.
        if is_on && known.is_some_and(|of| of == node) && !stored.body.contains("\"ephemeralContainers\"") {
            return;
        }
        if let Some(of) = known.filter(|of| !is_on || *of != node).cloned() {
            self.pods.remove(&place);
            if let Some(pods) = self.nodes.get_mut(&of) {
                pods.remove(&place);
                if pods.is_empty() {
                    self.nodes.remove(&of);
                }
            }
        }
        if !is_on {
            return;
        }
        let Ok(pod) = stored.value() else { return };
        let is_mirror = at(&pod, "/metadata/annotations").is_some_and(|all| all.get(MIRROR).is_some());
        let refers = if is_mirror { References::default() } else { References::of(&pod) };
        self.pods.insert(place.clone(), node.to_owned());
        self.nodes.entry(node.to_owned()).or_default().insert(place, refers);
    }
}
