//! DaemonSets: a pod on each node that fits (`pkg/controller/daemon`). The scheduler binds them; what they tolerate and which node
//! they are for is in each pod. `maxSurge` is not known: an old pod goes before the new one comes.

mod plan;

use apimachinery::kinds::lines;
use apimachinery::object;
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

const KIND: Kind = &lines::DaemonSet;

/// The controller.
pub struct DaemonSets;

impl Controller for DaemonSets {
    fn name(&self) -> &'static str {
        "daemonset-controller"
    }

    fn user(&self) -> &'static str {
        "system:serviceaccount:kube-system:daemon-set-controller"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![KIND, &lines::Pod, &lines::Node, revisions::KIND]
    }

    fn touched(&self, cache: &Cache, change: &Change) -> Vec<Key> {
        if change.kind == revisions::KIND {
            return touched::owners(KIND, change);
        }
        if change.kind != &lines::Node {
            return touched::by_pods(KIND, "/spec/selector", cache, change);
        }
        let told = |node: &Value| (node["spec"].clone(), node["metadata"]["labels"].clone());
        let is_news = match (&change.old, &change.new) {
            (Some(old), Some(new)) => told(&old.value()) != told(&new.value()),
            _ => true,
        };
        let all = cache.store(KIND).entries("").into_iter().filter(|_| is_news);
        all.map(|(key, _)| key).collect()
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
    if selector.is_everything() {
        return Ok(None);
    }
    let own = own_pods(work, KIND, &set, &selector).await?;
    let (update, others) = revisions::sync(work, KIND, &set, &selector).await?;
    let hash = update["metadata"]["labels"][revisions::HASH].as_str().unwrap_or_default().to_owned();
    let nodes = work.cache.store(&lines::Node).values("");
    let plan = plan(&set, &own, &nodes, &hash, (work.now)());
    work.client.update_status(KIND, &set, plan.status).await?;
    for pod in &plan.delete {
        work.client.delete(&lines::Pod, pod).await?;
        let message = format!("Deleted pod: {}", object::name(pod));
        work.client.event(KIND, &set, ("Normal", "SuccessfulDelete", &message)).await;
    }
    for node in &plan.create {
        match work.client.create(&lines::Pod, &plan::pod(&set, node, &hash)).await {
            Ok(made) => {
                let message = format!("Created pod: {}", object::name(&made));
                work.client.event(KIND, &set, ("Normal", "SuccessfulCreate", &message)).await;
            }
            Err(status) => {
                let message = format!("Error creating: {}", status.message);
                work.client.event(KIND, &set, ("Warning", "FailedCreate", &message)).await;
                return Err(status);
            }
        }
    }
    let used = |revision: &Value| {
        let label = &revision["metadata"]["labels"][revisions::HASH];
        own.iter().any(|pod| pod["metadata"]["labels"][revisions::HASH] == *label)
    };
    revisions::clean_up(work, &set, &others, used).await?;
    if plan.failed {
        // Those that failed are replaced, but not as fast as they fail.
        return Err(Status::unavailable("pods of a DaemonSet have failed and are replaced"));
    }
    let min_ready = object::integer(&set, "/spec/minReadySeconds").unwrap_or(0);
    Ok(pods::next_available(own.iter(), min_ready, (work.now)()))
}
