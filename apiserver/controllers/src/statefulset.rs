//! StatefulSets: pods with a number, a name and volumes of their own, one after the other (`pkg/controller/statefulset`).
//! Claims of pods that are gone stay.

mod plan;
mod pod;

use apimachinery::kinds::lines;
use apimachinery::object::{self, text};
use apimachinery::{LabelSelector, Status};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::api::{Key, Kind};
use crate::cache::{Cache, Change};
use crate::replicaset::own_pods;
use crate::shell::{Again, Controller, Work};
use crate::{pods, revisions, touched};

pub use plan::{Plan, plan};

const KIND: Kind = &lines::StatefulSet;
const CLAIM: Kind = &lines::PersistentVolumeClaim;

/// The controller.
pub struct StatefulSets;

impl Controller for StatefulSets {
    fn name(&self) -> &'static str {
        "statefulset-controller"
    }

    fn user(&self) -> &'static str {
        "system:serviceaccount:kube-system:statefulset-controller"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![KIND, &lines::Pod, CLAIM, revisions::KIND]
    }

    fn touched(&self, cache: &Cache, change: &Change) -> Vec<Key> {
        if change.kind == revisions::KIND {
            return touched::owners(KIND, change);
        }
        touched::by_pods(KIND, "/spec/selector", cache, change)
    }

    fn reconcile<'a>(&'a self, work: &'a Work, key: &'a Key) -> BoxFuture<'a, Result<Again, Status>> {
        reconcile(work, key).boxed()
    }
}

async fn reconcile(work: &Work, key: &Key) -> Result<Again, Status> {
    let Some(set) = work.cache.store(KIND).get(key).filter(|set| !object::deleting(set)) else {
        return Ok(None);
    };
    let Ok(selector) = LabelSelector::of_object(&set["spec"]["selector"], "spec.selector") else {
        return Ok(None);
    };
    let own = own_pods(work, KIND, &set, &selector).await?;
    let (update, others) = revisions::sync(work, KIND, &set, &selector).await?;
    let named = text(&set, "/status/currentRevision");
    let current = others.iter().find(|revision| object::name(revision) == named).unwrap_or(&update);
    let plan = plan(&set, &own, (object::name(current), object::name(&update)), (work.now)());
    for pod in &plan.delete {
        work.client.delete(&lines::Pod, pod).await?;
        let message = format!("delete Pod {} in StatefulSet {} successful", object::name(pod), key.name);
        work.client.event(KIND, &set, ("Normal", "SuccessfulDelete", &message)).await;
    }
    for (ordinal, revision) in &plan.create {
        let of = if revision == object::name(&update) { &update } else { current };
        let made = pod::made(&set, &revisions::template(of), *ordinal, revision);
        let created = create(work, &set, *ordinal, &made).await;
        tell(work, &set, object::name(&made), &created).await;
        created?;
    }
    work.client.update_status(KIND, &set, plan.status).await?;
    let used = |revision: &Value| {
        object::name(revision) == named
            || own.iter().any(|pod| pod["metadata"]["labels"][revisions::HASH] == object::name(revision))
    };
    revisions::clean_up(work, &set, &others, used).await?;
    let min_ready = object::integer(&set, "/spec/minReadySeconds").unwrap_or(0);
    Ok(pods::next_available(own.iter(), min_ready, (work.now)()))
}

async fn create(work: &Work, set: &Value, ordinal: i64, pod: &Value) -> Result<(), Status> {
    for claim in pod::claims(set, ordinal) {
        if work.cache.store(CLAIM).entry(&Key::of(&claim)).is_some() {
            continue;
        }
        match work.client.create(CLAIM, &claim).await {
            Err(status) if status.reason != "AlreadyExists" => return Err(status),
            _ => {}
        }
    }
    work.client.create(&lines::Pod, pod).await.map(drop)
}

async fn tell(work: &Work, set: &Value, pod: &str, created: &Result<(), Status>) {
    let name = object::name(set);
    match created {
        Ok(()) => {
            let message = format!("create Pod {pod} in StatefulSet {name} successful");
            work.client.event(KIND, set, ("Normal", "SuccessfulCreate", &message)).await;
        }
        Err(status) => {
            let message = format!("create Pod {pod} in StatefulSet {name} failed error: {}", status.message);
            work.client.event(KIND, set, ("Warning", "FailedCreate", &message)).await;
        }
    }
}
