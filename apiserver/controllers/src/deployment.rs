//! Deployments: ReplicaSets of one template after the other (`pkg/controller/deployment`).
//!
//! [`decide`] is the whole of it, pure: what is to be made, changed and deleted, and the status. One round does one step of a
//! rollout; the next change of a ReplicaSet leads to the next.

mod conditions;
mod numbers;
mod rolling;
mod scaling;
mod sets;
mod status;

use std::time::Duration;

use apimachinery::kinds::lines;
use apimachinery::object::{self, integer, text};
use apimachinery::{LabelSelector, Status};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{Key, Kind};
use crate::cache::{Cache, Change};
use crate::ownership::{self, claim};
use crate::shell::{Again, Controller, Work};
use crate::{pods, touched};

pub use numbers::REVISION;
pub use sets::HASH;

const KIND: Kind = &lines::Deployment;
const SETS: Kind = &lines::ReplicaSet;

/// What is to be done for a Deployment.
#[derive(Debug, Default, PartialEq)]
pub struct Decision {
    pub create: Option<Value>,
    /// ReplicaSets with another size or other annotations.
    pub update: Vec<Value>,
    pub delete: Vec<Value>,
    /// The revision that the Deployment is at, if it does not say so yet.
    pub revision: Option<i64>,
    pub status: Value,
    /// Reasons and messages.
    pub events: Vec<(&'static str, String)>,
    /// When to look again though nothing changed.
    pub again: Option<Duration>,
}

/// The ReplicaSets of a Deployment while a decision is made.
struct Round<'a> {
    deployment: &'a Value,
    new: Option<Value>,
    /// Oldest first.
    old: Vec<Value>,
    decision: Decision,
    now: Timestamp,
}

impl Round<'_> {
    fn all(&self) -> impl Iterator<Item = &Value> {
        self.old.iter().chain(self.new.iter())
    }

    /// Gives a set another size. True if it had another one.
    fn scale(deployment: &Value, set: &mut Value, size: i64, decision: &mut Decision) -> bool {
        let before = numbers::size(set);
        let annotated = sets::annotate_size(deployment, set);
        set["spec"]["replicas"] = json!(size);
        if before == size && !annotated {
            return false;
        }
        let is_new = decision.create.as_ref().is_some_and(|new| object::name(new) == object::name(set));
        match is_new {
            true => decision.create = Some(set.clone()),
            false => {
                decision.update.retain(|other| object::uid(other) != object::uid(set));
                decision.update.push(set.clone());
            }
        }
        if before != size {
            let way = if before < size { "up" } else { "down" };
            let name = object::name(set);
            let message = format!("Scaled {way} replica set {name} from {before} to {size}");
            decision.events.push(("ScalingReplicaSet", message));
        }
        before != size
    }
}

/// `sets` are its own; `runs_old` says that pods of earlier templates have not ended yet.
pub fn decide(deployment: &Value, sets: Vec<Value>, runs_old: bool, now: Timestamp) -> Decision {
    let (new, old) = sets::split(deployment, sets);
    let mut round = Round { deployment, new, old, decision: Decision::default(), now };
    if object::deleting(deployment) {
        status::plain(&mut round);
        return round.decision;
    }
    let is_paused = deployment["spec"]["paused"] == true;
    let before = round.new.is_some();
    if is_paused || scaling::is_due(&round) {
        sets::sync(&mut round, false);
        scaling::scale(&mut round);
        if is_paused {
            sets::clean_up(&mut round);
        }
        status::plain(&mut round);
        return round.decision;
    }
    let recreates = text(deployment, "/spec/strategy/type") == "Recreate";
    match recreates {
        true if round.old.iter().any(|set| numbers::size(set) > 0) => {
            sets::sync(&mut round, false);
            rolling::empty_old(&mut round);
        }
        true if runs_old => sets::sync(&mut round, false),
        true => {
            sets::sync(&mut round, true);
            rolling::fill_new(&mut round);
        }
        false => {
            sets::sync(&mut round, true);
            if !rolling::grow_new(&mut round) {
                rolling::shrink_old(&mut round);
            }
        }
    }
    status::rollout(&mut round, before);
    if status::is_complete(deployment, &round.decision.status) {
        sets::clean_up(&mut round);
    }
    round.decision
}

/// The controller.
pub struct Deployments;

impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    fn user(&self) -> &'static str {
        "system:serviceaccount:kube-system:deployment-controller"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![KIND, SETS, &lines::Pod]
    }

    fn touched(&self, cache: &Cache, change: &Change) -> Vec<Key> {
        if change.kind == KIND {
            return vec![change.key.clone()];
        }
        if change.kind == SETS {
            let mut keys = touched::owners(KIND, change);
            if let Some(orphan) = change.new.as_ref().filter(|new| new.owner.is_empty()) {
                keys.extend(touched::selecting(KIND, "/spec/selector", cache, &change.key.namespace, orphan));
            }
            return keys;
        }
        // The last pod of an old set: Recreate goes on.
        let Some(old) = change.old.as_ref().filter(|_| change.new.is_none()) else { return vec![] };
        let pod = old.value();
        let set = ownership::controller_name(&pod, SETS);
        let set = set.and_then(|name| cache.store(SETS).get(&Key::new(&change.key.namespace, name)));
        let name = set.and_then(|set| ownership::controller_name(&set, KIND).map(str::to_owned));
        name.map(|name| Key::new(&change.key.namespace, &name)).into_iter().collect()
    }

    fn reconcile<'a>(&'a self, work: &'a Work, key: &'a Key) -> BoxFuture<'a, Result<Again, Status>> {
        reconcile(work, key).boxed()
    }
}

async fn reconcile(work: &Work, key: &Key) -> Result<Again, Status> {
    let Some(deployment) = work.cache.store(KIND).get(key) else { return Ok(None) };
    let Ok(selector) = LabelSelector::of_object(&deployment["spec"]["selector"], "spec.selector") else {
        return Ok(None);
    };
    let sets = own_sets(work, &deployment, &selector).await?;
    let (new, old) = sets::split(&deployment, sets.clone());
    let new = new.as_ref().map(object::uid).unwrap_or_default();
    let runs_old = old.iter().any(|set| {
        let pods = work.cache.store(&lines::Pod).owned_by(object::uid(set));
        object::uid(set) != new && pods.iter().any(|pod| !pods::is_finished(pod))
    });
    let decision = decide(&deployment, sets, runs_old, (work.now)());
    carry_out(work, deployment, decision).await
}

async fn own_sets(work: &Work, deployment: &Value, selector: &LabelSelector) -> Result<Vec<Value>, Status> {
    let candidates =
        work.cache.store(SETS).candidates(object::namespace(deployment), object::uid(deployment), selector);
    let mut claims = claim(deployment, selector, candidates);
    for set in claims.adopt {
        work.client.patch_object(SETS, &set, ownership::adoption(KIND, deployment, &set)).await?;
        claims.owned.push(set);
    }
    for set in claims.release {
        work.client.patch_object(SETS, &set, ownership::release(deployment, &set)).await?;
    }
    Ok(claims.owned)
}

async fn carry_out(work: &Work, deployment: Value, decision: Decision) -> Result<Again, Status> {
    let mut status = decision.status;
    let mut failure = None;
    if let Some(set) = &decision.create {
        match work.client.create(SETS, set).await {
            Ok(_) => {}
            Err(told) if told.reason == "AlreadyExists" => {
                // The name is taken by another template: the next name comes from another count.
                let collisions = integer(&deployment, "/status/collisionCount").unwrap_or(0) + 1;
                status = deployment["status"].clone();
                status["collisionCount"] = json!(collisions);
            }
            Err(told) => {
                let message =
                    format!("Failed to create new replica set {:?}: {}", object::name(set), told.message);
                let now = daemon::clock::rfc3339((work.now)());
                conditions::set(
                    &mut status,
                    "Progressing",
                    ("False", "ReplicaSetCreateError", &message),
                    &now,
                );
                work.client.event(KIND, &deployment, ("Warning", "ReplicaSetCreateError", &message)).await;
                failure = Some(told);
            }
        }
    }
    if failure.is_none() {
        for set in &decision.update {
            work.client.update(SETS, set).await?;
        }
        for (reason, message) in &decision.events {
            work.client.event(KIND, &deployment, ("Normal", reason, message)).await;
        }
        for set in &decision.delete {
            work.client.delete(SETS, set).await?;
        }
    }
    let deployment = match decision.revision {
        Some(revision) if failure.is_none() => {
            let patch = json!({"metadata": {"annotations": {REVISION: revision.to_string()}}});
            work.client.patch(KIND, &Key::of(&deployment), "", &patch).await?
        }
        _ => deployment,
    };
    work.client.update_status(KIND, &deployment, status).await?;
    failure.map_or(Ok(decision.again), Err)
}

#[cfg(test)]
mod tests;
