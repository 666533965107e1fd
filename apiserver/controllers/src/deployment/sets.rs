//! The ReplicaSets of a Deployment: which one has its template, how one is made, their revisions
//! (`pkg/controller/deployment/util`, `sync.go`).

use apimachinery::object::{self, as_map, integer, map_in, text};
use serde_json::{Value, json};

use super::Round;
use super::numbers::{
    DESIRED, HISTORY, MAXIMUM, REVISION, annotation, desired, first_size, maximum, revision, size, surge,
    wanted,
};
use crate::{hash, ownership, pods};

/// The label that tells pods of different templates apart.
pub const HASH: &str = "pod-template-hash";

/// Annotations of a Deployment that its ReplicaSets do not get.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.to",
];

/// The set of the Deployment's template, and the others, oldest first.
pub(super) fn split(deployment: &Value, mut sets: Vec<Value>) -> (Option<Value>, Vec<Value>) {
    sets.sort_by_cached_key(|set| {
        (text(set, "/metadata/creationTimestamp").to_owned(), object::name(set).to_owned())
    });
    let template = &deployment["spec"]["template"];
    let at = sets.iter().position(|set| same(&set["spec"]["template"], template));
    (at.map(|at| sets.remove(at)), sets)
}

/// True for templates that differ in no more than the label of their hash.
fn same(one: &Value, other: &Value) -> bool {
    let bare = |template: &Value| {
        let mut template = template.clone();
        map_in(map_in(as_map(&mut template), "metadata"), "labels").remove(HASH);
        without_nulls(&mut template);
        template
    };
    bare(one) == bare(other)
}

/// Typed clients write null for a time that is not set.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Finds, or makes if `create`, the set of the template, and brings its revision up to date.
pub(super) fn sync(round: &mut Round<'_>, create: bool) {
    let next = round.old.iter().map(revision).max().unwrap_or(0) + 1;
    let deployment = round.deployment;
    let new = match round.new.take() {
        Some(mut set) => {
            let before = set.clone();
            inherit(deployment, &mut set);
            renumber(&mut set, next);
            if deployment["spec"].get("minReadySeconds") != set["spec"].get("minReadySeconds") {
                set["spec"]["minReadySeconds"] =
                    json!(integer(deployment, "/spec/minReadySeconds").unwrap_or(0));
            }
            if set != before {
                round.decision.update.push(set.clone());
            }
            set
        }
        None if !create => return,
        None => {
            let mut set = made(deployment, next);
            let size = first_size(deployment, &round.old);
            set["spec"]["replicas"] = json!(size);
            annotate_size(deployment, &mut set);
            if size > 0 {
                let message = format!("Scaled up replica set {} from 0 to {size}", object::name(&set));
                round.decision.events.push(("ScalingReplicaSet", message));
            }
            round.decision.create = Some(set.clone());
            set
        }
    };
    let is_said = annotation(deployment, REVISION) == revision(&new).to_string();
    round.decision.revision = (!is_said).then(|| revision(&new));
    round.new = Some(new);
}

fn inherit(deployment: &Value, set: &mut Value) {
    let all = deployment["metadata"]["annotations"].as_object().into_iter().flatten();
    for (name, value) in all.filter(|(name, _)| !OWN.contains(&name.as_str())) {
        map_in(object::metadata(set), "annotations").insert(name.clone(), value.clone());
    }
}

/// A set that is taken up again gets a new revision and remembers the old one.
fn renumber(set: &mut Value, next: i64) {
    let old = revision(set);
    if old >= next {
        return;
    }
    let history = annotation(set, HISTORY).to_owned();
    let annotations = map_in(object::metadata(set), "annotations");
    annotations.insert(REVISION.to_owned(), json!(next.to_string()));
    if old > 0 {
        let history = if history.is_empty() { old.to_string() } else { format!("{history},{old}") };
        annotations.insert(HISTORY.to_owned(), json!(history));
    }
}

/// A new set of the Deployment's template.
fn made(deployment: &Value, revision: i64) -> Value {
    let collisions = integer(deployment, "/status/collisionCount").unwrap_or(0);
    let mut template = deployment["spec"]["template"].clone();
    let hash = hash::of(&template, collisions);
    pods::label(&mut template, HASH, &hash);
    let mut selector = deployment["spec"]["selector"].clone();
    map_in(as_map(&mut selector), "matchLabels").insert(HASH.to_owned(), json!(hash));
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{}-{hash}", object::name(deployment)), "namespace": object::namespace(deployment),
            "labels": template["metadata"]["labels"], "annotations": {},
            "ownerReferences": [ownership::reference(super::KIND, deployment)],
        },
        "spec": {"replicas": 0, "selector": selector, "template": template},
    });
    if let Some(seconds) = integer(deployment, "/spec/minReadySeconds") {
        set["spec"]["minReadySeconds"] = json!(seconds);
    }
    inherit(deployment, &mut set);
    renumber(&mut set, revision);
    set
}

/// Notes on a set how many pods are wanted, and the most there may be. True if that is news.
pub(super) fn annotate_size(deployment: &Value, set: &mut Value) -> bool {
    let wanted = wanted(deployment);
    let most = wanted + surge(deployment);
    let before = (desired(set), maximum(set));
    let annotations = map_in(object::metadata(set), "annotations");
    annotations.insert(DESIRED.to_owned(), json!(wanted.to_string()));
    annotations.insert(MAXIMUM.to_owned(), json!(most.to_string()));
    before != (Some(wanted), Some(most))
}

/// Old sets without pods go, but for as many as the history keeps.
pub(super) fn clean_up(round: &mut Round<'_>) {
    let Some(limit) = integer(round.deployment, "/spec/revisionHistoryLimit") else { return };
    let limit = usize::try_from(limit).unwrap_or(0);
    let surplus = round.old.iter().filter(|set| !object::deleting(set)).count().saturating_sub(limit);
    let mut old: Vec<&Value> = round.old.iter().filter(|set| !object::deleting(set)).collect();
    old.sort_by_key(|set| revision(set));
    let observed =
        |set: &Value| integer(set, "/status/observedGeneration") >= integer(set, "/metadata/generation");
    let is_empty = |set: &Value| integer(set, "/status/replicas").unwrap_or(0) == 0 && size(set) == 0;
    let gone = old.into_iter().take(surplus).filter(|set| is_empty(set) && observed(set)).cloned();
    round.decision.delete = gone.collect();
}
