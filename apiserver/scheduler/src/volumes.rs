//! Volumes that a pod must wait for, or that are on some nodes only (`plugins/volumebinding`).

use apimachinery::kinds::lines;
use apimachinery::object::{self, list, text};
use controllers::api::Key;
use controllers::cache::Cache;
use controllers::placement;
use serde_json::Value;

use crate::nodes::Node;

/// What a pod's claims ask of nodes.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    /// Why the pod can be nowhere yet.
    waits: Option<String>,
    /// Required node affinities of its volumes.
    affinities: Vec<Value>,
}

impl Volumes {
    pub(crate) fn of(pod: &Value, cache: &Cache) -> Volumes {
        let mut volumes = Volumes::default();
        for name in claims(pod) {
            let key = Key::new(object::namespace(pod), &name);
            let Some(claim) = cache.store(&lines::PersistentVolumeClaim).get(&key) else {
                volumes.waits = Some(format!("persistentvolumeclaim {name:?} not found"));
                return volumes;
            };
            if object::deleting(&claim) {
                volumes.waits = Some(format!("persistentvolumeclaim {name:?} is being deleted"));
                return volumes;
            }
            let volume = text(&claim, "/spec/volumeName");
            if volume.is_empty() || text(&claim, "/status/phase") != "Bound" {
                volumes.waits = Some("pod has unbound immediate PersistentVolumeClaims".to_owned());
                return volumes;
            }
            let volume = cache.store(&lines::PersistentVolume).get(&Key::new("", volume));
            let required = volume.map(|volume| volume["spec"]["nodeAffinity"]["required"].clone());
            volumes.affinities.extend(required.filter(|required| !required.is_null()));
        }
        volumes
    }

    pub(crate) fn reason(&self, node: &Node) -> Option<String> {
        if let Some(why) = &self.waits {
            return Some(why.clone());
        }
        let is_there = |required: &Value| {
            list(required, "/nodeSelectorTerms")
                .iter()
                .any(|term| placement::matches_term(term, &node.object))
        };
        let is_elsewhere = !self.affinities.iter().all(is_there);
        is_elsewhere.then(|| "node(s) had volume node affinity conflict".to_owned())
    }
}

/// The names of a pod's claims, those that are made with it included.
fn claims(pod: &Value) -> Vec<String> {
    let volumes = list(pod, "/spec/volumes").iter();
    volumes
        .filter_map(|volume| {
            match (text(volume, "/persistentVolumeClaim/claimName"), volume.get("ephemeral")) {
                ("", Some(_)) => Some(format!("{}-{}", object::name(pod), text(volume, "/name"))),
                ("", None) => None,
                (name, _) => Some(name.to_owned()),
            }
        })
        .collect()
}
