//! A round: every pod that waits gets a node, or is told why not.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use apimachinery::Status;
use apimachinery::kinds::lines;
use apimachinery::object::{self, list, text};
use controllers::api::{Key, Kind};
use controllers::cache::{Cache, Change, Entry};
use controllers::shell::{Again, Controller, Work};
use controllers::{conditions, pods};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::affinity::Affinity;
use crate::facts::{Facts, Known, POD, is_ours};
use crate::filter::{self, Candidate};
use crate::nodes::{Node, with_pods};
use crate::preempt;
use crate::score;
use crate::spread::Spread;
use crate::terms::Namespaces;
use crate::volumes::Volumes;

/// The controller.
#[derive(Default)]
pub struct Scheduler {
    known: Mutex<Known>,
}

impl Controller for Scheduler {
    fn name(&self) -> &'static str {
        "default-scheduler"
    }

    fn user(&self) -> &'static str {
        "system:kube-scheduler"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![
            POD,
            &lines::Node,
            &lines::Namespace,
            &lines::PersistentVolumeClaim,
            &lines::PersistentVolume,
            &lines::PodDisruptionBudget,
        ]
    }

    /// There is one key: a round is about all pods that wait.
    fn touched(&self, _cache: &Cache, change: &Change) -> Vec<Key> {
        if is_occasion(change) { vec![Key::default()] } else { vec![] }
    }

    fn reconcile<'a>(&'a self, work: &'a Work, _key: &'a Key) -> BoxFuture<'a, Result<Again, Status>> {
        async move {
            let (placed, waiting) =
                self.known.lock().unwrap_or_else(PoisonError::into_inner).look(work.cache.store(POD));
            round(work, placed, waiting).await
        }
        .boxed()
    }
}

/// True for a change after which a pod may find a node that did not before.
fn is_occasion(change: &Change) -> bool {
    let value = |entry: &Option<Arc<Entry>>| entry.as_ref().map(|entry| entry.value());
    let (old, new) = (value(&change.old), value(&change.new));
    match (change.kind.resource, old, new) {
        ("pods", None, Some(new)) => is_ours(&new),
        ("pods", Some(old), None) => !pods::node(&old).is_empty(),
        ("pods", Some(old), Some(new)) => {
            let got_ready = is_ours(&new) && (!is_ours(&old) || old["spec"] != new["spec"]);
            let moved = pods::node(&old) != pods::node(&new)
                || old["metadata"]["labels"] != new["metadata"]["labels"];
            got_ready
                || (!pods::node(&new).is_empty()
                    && (moved || pods::is_finished(&old) != pods::is_finished(&new)))
        }
        ("nodes", Some(old), Some(new)) => ["/spec", "/metadata/labels", "/status/allocatable"]
            .iter()
            .any(|part| old.pointer(part) != new.pointer(part)),
        ("persistentvolumeclaims" | "persistentvolumes" | "nodes", _, _) => true,
        _ => false,
    }
}

async fn round(work: &Work, placed: Vec<Arc<Facts>>, mut waiting: Vec<Value>) -> Result<Again, Status> {
    if waiting.is_empty() {
        return Ok(None);
    }
    waiting.sort_by_cached_key(|pod| {
        (-filter::priority(pod), text(pod, "/metadata/creationTimestamp").to_owned(), Key::of(pod))
    });
    let nodes = work.cache.store(&lines::Node).values("");
    let nodes = nodes.into_iter().filter(|node| !object::deleting(node)).collect();
    let mut nodes = with_pods(nodes, placed);
    let namespaces = work.cache.store(&lines::Namespace).entries("").into_iter();
    let namespaces: Namespaces = namespaces.map(|(key, entry)| (key.name, entry.labels.clone())).collect();
    let mut failed = None;
    for pod in &waiting {
        let candidate = candidate(pod, &nodes, &namespaces, &work.cache);
        let outcome = match choose(&candidate, &nodes) {
            Ok(at) => {
                let facts = Facts { node: nodes[at].name().to_owned(), ..candidate.facts };
                let bound = bind(work, pod, &facts.node).await;
                if bound.is_ok() {
                    nodes[at].take(Arc::new(facts));
                }
                bound
            }
            Err(message) => {
                let refused = refuse(work, pod, &message).await;
                let made = make_room(work, &candidate, &nodes).await;
                // Nobody less important takes what is nominated.
                let nominated = match &made {
                    Ok(Some(node)) => node.clone(),
                    _ => text(pod, "/status/nominatedNodeName").to_owned(),
                };
                if let Some(at) = nodes.iter().position(|node| node.name() == nominated) {
                    nodes[at].take(Arc::new(Facts { node: nominated, ..candidate.facts }));
                }
                refused.and(made.map(drop))
            }
        };
        failed = outcome.err().or(failed);
    }
    failed.map_or(Ok(None), Err)
}

pub(crate) fn candidate<'a>(
    pod: &'a Value,
    nodes: &[Node],
    namespaces: &Namespaces,
    cache: &Cache,
) -> Candidate<'a> {
    let facts = Facts::of(pod);
    let affinity = Affinity::of(pod, &facts, nodes, namespaces);
    let spread = Spread::of(pod, &facts, nodes);
    Candidate { pod, facts, affinity, spread, volumes: Volumes::of(pod, cache) }
}

/// The best node, by its place in `nodes`, or why there is none.
pub(crate) fn choose(candidate: &Candidate<'_>, nodes: &[Node]) -> Result<usize, String> {
    let reasons: Vec<Vec<String>> = nodes.iter().map(|node| filter::reasons(candidate, node)).collect();
    let fitting: Vec<usize> = (0..nodes.len()).filter(|at| reasons[*at].is_empty()).collect();
    if fitting.is_empty() {
        return Err(filter::message(nodes.len(), reasons.into_iter().flatten()));
    }
    let some: Vec<&Node> = fitting.iter().map(|at| &nodes[*at]).collect();
    let scores = score::scores(candidate, &some);
    let best = scores.iter().max().copied().unwrap_or(0);
    // One of the best by chance, so that the first node is not filled first.
    let best: BTreeSet<usize> =
        (0..some.len()).filter(|at| scores[*at] == best).map(|at| fitting[at]).collect();
    let at = rand::random_range(0..best.len());
    best.into_iter().nth(at).ok_or_else(|| "no nodes available to schedule pods".to_owned())
}

async fn bind(work: &Work, pod: &Value, node: &str) -> Result<(), Status> {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": object::name(pod), "namespace": object::namespace(pod), "uid": object::uid(pod)},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    work.client.post(POD, pod, "binding", &binding).await?;
    let message = format!("Successfully assigned {}/{} to {node}", object::namespace(pod), object::name(pod));
    work.client.event(POD, pod, ("Normal", "Scheduled", &message)).await;
    Ok(())
}

/// Lets less important pods go for one that fits nowhere; the node on which it will have room.
async fn make_room(work: &Work, candidate: &Candidate<'_>, nodes: &[Node]) -> Result<Option<String>, Status> {
    let pod = candidate.pod;
    if !preempt::may(candidate, nodes) {
        return Ok(None);
    }
    let Some(victims) = preempt::choose(candidate, nodes, &preempt::budgets(&work.cache)) else {
        return Ok(None);
    };
    let node = nodes[victims.at].name();
    for victim in victims.pods.iter().filter(|victim| !victim.leaving) {
        let reference = preempt::reference(victim);
        let Some(found) = work.cache.store(POD).get(&Key::of(&reference)) else { continue };
        let mut all = list(&found, "/status/conditions").to_vec();
        let message = "default-scheduler: preempting to accommodate a higher priority pod";
        let condition = ("True", "PreemptionByScheduler", message);
        if conditions::set(&mut all, "DisruptionTarget", condition, &daemon::clock::rfc3339((work.now)())) {
            let patch = json!({"metadata": {"uid": victim.uid}, "status": {"conditions": all}});
            match work.client.patch(POD, &Key::of(&found), "status", &patch).await {
                Err(status) if !status.is_not_found() => return Err(status),
                _ => {}
            }
        }
        work.client.delete(POD, &reference).await?;
        let message = format!("Preempted by pod {} on node {node}", object::uid(pod));
        work.client.event(POD, &found, ("Normal", "Preempted", &message)).await;
    }
    let patch = json!({"metadata": {"uid": object::uid(pod)}, "status": {"nominatedNodeName": node}});
    work.client.patch(POD, &Key::of(pod), "status", &patch).await?;
    Ok(Some(node.to_owned()))
}

async fn refuse(work: &Work, pod: &Value, message: &str) -> Result<(), Status> {
    let now = daemon::clock::rfc3339((work.now)());
    let mut all = list(pod, "/status/conditions").to_vec();
    if !conditions::set(&mut all, "PodScheduled", ("False", "Unschedulable", message), &now) {
        return Ok(());
    }
    work.client.event(POD, pod, ("Warning", "FailedScheduling", message)).await;
    let patch = json!({"metadata": {"uid": object::uid(pod)}, "status": {"conditions": all}});
    work.client.patch(POD, &Key::of(pod), "status", &patch).await.map(drop)
}

#[cfg(test)]
mod tests;
