//! Jobs: pods that run to their end, so often (`pkg/controller/job`).
//!
//! A pod carries a finalizer until it was counted, so none is missed that goes early: its uid is written into the status, then the
//! finalizer goes, then the count moves up. [`decide`] is the whole of it, pure.

mod count;
mod decision;
mod indexes;
mod ttl;

use apimachinery::kinds::lines;
use apimachinery::object::{self, list, text};
use apimachinery::{LabelSelector, Status};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::api::{Key, Kind};
use crate::cache::{Cache, Change};
use crate::ownership::JOB_FINALIZER;
use crate::pods;
use crate::replicaset::own_pods;
use crate::shell::{Again, Controller, Work};
use crate::touched;

pub use decision::{Decision, decide};
pub use ttl::Ttl;

const KIND: Kind = &lines::Job;
/// The label that names the Job of a pod.
const NAME: &str = "batch.kubernetes.io/job-name";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// True once a Job is over: complete or failed.
pub fn is_finished(job: &Value) -> bool {
    let over = |condition: &Value| {
        matches!(text(condition, "/type"), "Complete" | "Failed") && condition["status"] == "True"
    };
    list(job, "/status/conditions").iter().any(over)
}

/// A pod of a Job, for an index if it has such.
fn pod(job: &Value, index: Option<i64>) -> Value {
    let mut pod = pods::from_template(KIND, job, &job["spec"]["template"]);
    let name = object::name(job);
    pod["metadata"]["finalizers"] = json!([JOB_FINALIZER]);
    if let Some(index) = index {
        pod["metadata"]["generateName"] = json!(format!("{name}-{index}-"));
        pods::label(&mut pod, INDEX, &index.to_string());
        object::map_in(object::metadata(&mut pod), "annotations")
            .insert(INDEX.to_owned(), json!(index.to_string()));
        pod["spec"]["hostname"] = json!(format!("{name}-{index}"));
        let field = format!("metadata.labels['{INDEX}']");
        let variable =
            json!({"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"fieldPath": field}}});
        let spec = object::map_in(object::as_map(&mut pod), "spec");
        for containers in ["containers", "initContainers"] {
            for container in object::maps_in(spec, containers) {
                let env = container.entry("env").or_insert_with(|| json!([]));
                if let Value::Array(env) = env
                    && !env.iter().any(|one| one["name"] == "JOB_COMPLETION_INDEX")
                {
                    env.push(variable.clone());
                }
            }
        }
    }
    pod
}

/// The controller.
pub struct Jobs;

impl Controller for Jobs {
    fn name(&self) -> &'static str {
        "job-controller"
    }

    fn user(&self) -> &'static str {
        "system:serviceaccount:kube-system:job-controller"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![KIND, &lines::Pod]
    }

    fn touched(&self, cache: &Cache, change: &Change) -> Vec<Key> {
        let mut keys = touched::by_pods(KIND, "/spec/selector", cache, change);
        // An orphan that was a Job's still has its finalizer.
        let orphan = change.new.as_ref().filter(|new| change.kind == &lines::Pod && new.owner.is_empty());
        let name = orphan.and_then(|orphan| orphan.labels.get(NAME));
        keys.extend(name.map(|name| Key::new(&change.key.namespace, name)).filter(|key| !keys.contains(key)));
        keys
    }

    fn reconcile<'a>(&'a self, work: &'a Work, key: &'a Key) -> BoxFuture<'a, Result<Again, Status>> {
        reconcile(work, key).boxed()
    }
}

async fn reconcile(work: &Work, key: &Key) -> Result<Again, Status> {
    let Some(job) = work.cache.store(KIND).get(key) else {
        // Its pods go, and nobody counts them any more.
        return let_go(work, key).await;
    };
    let Ok(selector) = LabelSelector::of_object(&job["spec"]["selector"], "spec.selector") else {
        return Ok(None);
    };
    let managed = text(&job, "/spec/managedBy");
    if !matches!(managed, "" | "kubernetes.io/job-controller") {
        return Ok(None);
    }
    let own = own_pods(work, KIND, &job, &selector).await?;
    let decision = decide(&job, &own, (work.now)());
    work.client.update_status(KIND, &job, decision.status).await?;
    for pod in &decision.release {
        release(work, pod).await?;
    }
    for pod in &decision.delete {
        work.client.delete(&lines::Pod, pod).await?;
        let message = format!("Deleted pod: {}", object::name(pod));
        work.client.event(KIND, &job, ("Normal", "SuccessfulDelete", &message)).await;
    }
    for index in &decision.create {
        match work.client.create(&lines::Pod, &pod(&job, *index)).await {
            Ok(made) => {
                let message = format!("Created pod: {}", object::name(&made));
                work.client.event(KIND, &job, ("Normal", "SuccessfulCreate", &message)).await;
            }
            Err(status) => {
                let message = format!("Error creating: {}", status.message);
                work.client.event(KIND, &job, ("Warning", "FailedCreate", &message)).await;
                return Err(status);
            }
        }
    }
    for (severity, reason, message) in &decision.events {
        work.client.event(KIND, &job, (severity, reason, message)).await;
    }
    Ok(decision.again)
}

async fn let_go(work: &Work, key: &Key) -> Result<Again, Status> {
    for (_, entry) in work.cache.store(&lines::Pod).entries(&key.namespace) {
        let pod = entry.value();
        let was_its = || entry.owner.is_empty() && entry.labels.get(NAME) == Some(&key.name);
        let is_its = crate::ownership::controller_name(&pod, KIND) == Some(&key.name) || was_its();
        if is_its && count::is_tracked(&pod) {
            release(work, &pod).await?;
        }
    }
    Ok(None)
}

/// Takes the finalizer off a pod.
async fn release(work: &Work, pod: &Value) -> Result<(), Status> {
    let rest: Vec<&Value> =
        list(pod, "/metadata/finalizers").iter().filter(|one| *one != JOB_FINALIZER).collect();
    let patch = json!({"metadata": {"uid": object::uid(pod), "finalizers": rest}});
    match work.client.patch_object(&lines::Pod, pod, patch).await {
        Err(status) if status.is_not_found() => Ok(()),
        other => other,
    }
}
