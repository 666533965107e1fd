//! Pods of nodes that are not heard of: how long Kubernetes leaves them alone (OpenYurt's annotations of nodes, KubeEdge's label of
//! pods).
//!
//! ```text
//! edgecontroller's watches --node, pod--> Autonomy: is the patience another? --> leader --patch of tolerations--> API server
//! ```
//!
//! While a node with a policy is not heard of, pods that were ready stay endpoints of their services.
//!
//! A pod keeps its own tolerations in annotations and gets them back when the policy ends. Room `webhooks` gives
//! pods theirs at creation where it is asked; this one mends the rest, such as pods that a scheduler placed, a moment later. A pod
//! is evicted at the earliest after minutes.

mod policy;
mod ready;
mod tolerations;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apimachinery::kinds::lines;
use message::{Json, Status};
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::kubernetes::{Cluster, Merge, Meta, lead};
use policy::Patience;

/// Pods patched at once.
const AT_ONCE: usize = 16;
/// Wait before what failed is tried again; others that get through shorten it.
const AGAIN: Duration = Duration::from_secs(2);
/// Tries of a patch that others' writes overtake.
const TRIES: usize = 4;
/// What a pod's text has in it if the pod may be one of ours on a node that is not.
const MARKS: [&str; 2] = ["app-offline.kubeedge.io", "apps.openyurt.io/original-"];

/// What there is to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    /// All pods of a node.
    Node(String),
    /// Namespace and name.
    Pod(String, String),
}

impl Task {
    fn of_pod(meta: &Meta) -> Task {
        Task::Pod(meta.namespace.clone().unwrap_or_default(), meta.name.clone())
    }
}

#[derive(Default)]
struct State {
    /// Nodes with a policy.
    nodes: HashMap<String, Patience>,
    /// Those of them that Kubernetes has given up waiting for.
    lost: BTreeSet<String>,
    /// What is to be looked at. Every replica keeps it, as any may lead next.
    waiting: BTreeSet<Task>,
}

/// What is to be changed of a pod.
enum Changes {
    Tolerations(Value),
    Ready(Value),
}

impl State {
    fn changes(&self, pod: &Value) -> Option<Changes> {
        let node = pod["spec"]["nodeName"].as_str()?;
        if pod["metadata"]["deletionTimestamp"].is_string() {
            return None;
        }
        if let Some(patch) = self.tolerations(pod, node) {
            return Some(Changes::Tolerations(patch));
        }
        let now = daemon::clock::rfc3339(daemon::clock::now());
        let is_lost = self.lost.contains(node);
        is_lost.then(|| ready::patch(pod, &now)).flatten().map(Changes::Ready)
    }
}

impl State {
    /// The merge patch that gives a pod the patience of its node. `None`: it has it.
    fn tolerations(&self, pod: &Value, node: &str) -> Option<Value> {
        let patience = self.nodes.get(node).copied().unwrap_or(Patience::Usual);
        tolerations::patch(pod, policy::of_pod(pod, patience))
    }
}

/// True for a pod that was ready when it was last heard of, and does not end.
pub fn was_ready(pod: &Value) -> bool {
    ready::was_ready(pod)
}

/// The room's handle. Clones share it.
#[derive(Clone, Default)]
pub struct Autonomy {
    state: Arc<Mutex<State>>,
    added: Arc<Notify>,
}

impl Autonomy {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The merge patch of a pod that is being made, if it is for a node with a policy (its own, or the one it selects by name) or
    /// says itself that it stays.
    pub fn at_creation(&self, pod: &Value) -> Option<Value> {
        let spec = &pod["spec"];
        let selected = spec["nodeSelector"]["kubernetes.io/hostname"].as_str();
        let node = spec["nodeName"].as_str().filter(|node| !node.is_empty()).or(selected);
        self.lock().tolerations(pod, node.unwrap_or_default())
    }

    /// True for a node with a policy that Kubernetes has given up waiting for.
    pub fn is_lost(&self, node: &str) -> bool {
        self.lock().lost.contains(node)
    }

    /// A node as the watch shows it.
    pub fn saw_node(&self, meta: &Meta, object: &Json) {
        let says_something = object.text().contains("openyurt.io/");
        if !says_something && !self.lock().nodes.contains_key(&meta.name) {
            return;
        }
        let node: Value = object.parse().unwrap_or_default();
        let patience = policy::of_node(&node["metadata"]);
        let mut state = self.lock();
        let before = match patience {
            Patience::Usual => state.nodes.remove(&meta.name),
            patience => state.nodes.insert(meta.name.clone(), patience),
        };
        let is_lost = patience != Patience::Usual && ready::is_lost(&node);
        let was_lost = match is_lost {
            true => !state.lost.insert(meta.name.clone()),
            false => state.lost.remove(&meta.name),
        };
        if before.unwrap_or(Patience::Usual) != patience || (is_lost && !was_lost) {
            self.add(&mut state, Task::Node(meta.name.clone()));
        }
    }

    pub fn node_gone(&self, meta: &Meta) {
        let mut state = self.lock();
        state.nodes.remove(&meta.name);
        state.lost.remove(&meta.name);
    }

    /// A pod as the watch shows it.
    pub fn saw_pod(&self, meta: &Meta, object: &Json) {
        let is_marked = MARKS.iter().any(|mark| object.text().contains(mark));
        if !is_marked && self.lock().nodes.is_empty() {
            return;
        }
        let pod: Value = object.parse().unwrap_or_default();
        let mut state = self.lock();
        match state.changes(&pod).is_some() {
            true => self.add(&mut state, Task::of_pod(meta)),
            false => drop(state.waiting.remove(&Task::of_pod(meta))),
        }
    }

    pub fn pod_gone(&self, meta: &Meta) {
        self.lock().waiting.remove(&Task::of_pod(meta));
    }

    fn add(&self, state: &mut State, task: Task) {
        state.waiting.insert(task);
        self.added.notify_one();
    }

    /// Works off what is to be done while this replica leads, until stopped.
    pub async fn run(
        self,
        cluster: Cluster,
        stop: CancellationToken,
    ) -> Result<(), crate::kubernetes::WorkEnded> {
        let work = {
            let (autonomy, cluster) = (self.clone(), cluster.clone());
            move |until: CancellationToken| {
                let (autonomy, cluster) = (autonomy.clone(), cluster.clone());
                async move { autonomy.work(cluster, until).await }
            }
        };
        lead(cluster, "autonomy", stop, work).await
    }

    async fn work(&self, cluster: Cluster, until: CancellationToken) {
        {
            // The replica that led before may not have come to the end.
            let mut state = self.lock();
            let nodes: Vec<Task> = state.nodes.keys().cloned().map(Task::Node).collect();
            state.waiting.extend(nodes);
        }
        loop {
            let batch = self.take();
            if batch.is_empty() {
                tokio::select! {
                    biased;
                    () = until.cancelled() => return,
                    () = self.added.notified() => continue,
                }
            }
            let recovery = cluster.recovery();
            let done = batch.iter().cloned().map(|task| self.carry_out(&cluster, task));
            let failed = tokio::select! {
                biased;
                () = until.cancelled() => return self.lock().waiting.extend(batch),
                results = futures_util::future::join_all(done) => results.contains(&false),
            };
            if failed {
                tokio::select! {
                    biased;
                    () = until.cancelled() => return,
                    _ = tokio::time::timeout(AGAIN, recovery.after(Duration::ZERO)) => {}
                }
            }
        }
    }

    fn take(&self) -> Vec<Task> {
        let mut state = self.lock();
        let batch: Vec<Task> = state.waiting.iter().take(AT_ONCE).cloned().collect();
        state.waiting.retain(|task| !batch.contains(task));
        batch
    }

    /// False: it is to be tried again.
    async fn carry_out(&self, cluster: &Cluster, task: Task) -> bool {
        let done = match &task {
            Task::Node(node) => self.look_through(cluster, node).await,
            Task::Pod(namespace, name) => self.mend(cluster, namespace, name).await,
        };
        match done {
            Ok(()) => true,
            Err(status) if status.is_retryable() || status.is_conflict() => {
                tracing::debug!(task = ?task, error = %status, "a pod does not follow the policy of its node yet");
                self.lock().waiting.insert(task);
                false
            }
            Err(status) => {
                tracing::warn!(task = ?task, error = %status, "a pod cannot follow the policy of its node and stays as it is");
                true
            }
        }
    }

    /// All pods of a node whose policy is another.
    async fn look_through(&self, cluster: &Cluster, node: &str) -> Result<(), Status> {
        let path = format!("{}?fieldSelector=spec.nodeName%3D{node}", lines::Pod.path(None, ""));
        let pods: Value = parsed(cluster.get(&path).await?)?;
        let mut state = self.lock();
        for pod in pods["items"].as_array().into_iter().flatten() {
            if state.changes(pod).is_some() {
                let text = |name: &str| pod["metadata"][name].as_str().unwrap_or_default().to_owned();
                state.waiting.insert(Task::Pod(text("namespace"), text("name")));
            }
        }
        Ok(())
    }

    async fn mend(&self, cluster: &Cluster, namespace: &str, name: &str) -> Result<(), Status> {
        let path = lines::Pod.path(Some(namespace), name);
        let mut tried = 0;
        loop {
            let pod = match cluster.get(&path).await {
                Ok(pod) => parsed(pod)?,
                Err(status) if status.is_not_found() => return Ok(()),
                Err(status) => return Err(status),
            };
            let changes = self.lock().changes(&pod);
            let Some(changes) = changes else { return Ok(()) };
            tried += 1;
            let changed = match changes {
                Changes::Tolerations(mut patch) => {
                    // Tolerations are one list: another's change of it must not be lost.
                    patch["metadata"]["resourceVersion"] = pod["metadata"]["resourceVersion"].clone();
                    cluster.patch(&path, Merge::Json, patch.to_string()).await
                }
                Changes::Ready(patch) => {
                    cluster.patch(&format!("{path}/status"), Merge::Strategic, patch.to_string()).await
                }
            };
            match changed {
                // There may be another change.
                Ok(_) if tried < TRIES => {
                    tracing::info!(namespace, name, "a pod follows the policy of its node")
                }
                Ok(_) => return Ok(()),
                Err(status) if status.is_not_found() => return Ok(()),
                Err(status) if status.is_conflict() && tried < TRIES => {}
                Err(status) => return Err(status),
            }
        }
    }
}

fn parsed(object: Json) -> Result<Value, Status> {
    object.parse().map_err(|error| Status::internal(format!("the API server's answer: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn saw(autonomy: &Autonomy, pod: &Value) {
        let text = |name: &str| pod["metadata"][name].as_str().unwrap_or_default().to_owned();
        let meta = Meta { name: text("name"), namespace: Some("d".to_owned()), ..Meta::default() };
        autonomy.saw_pod(&meta, &Json::of(pod));
    }

    #[test]
    fn only_what_a_policy_is_about_is_looked_at() {
        let autonomy = Autonomy::default();
        let pod = |name: &str, node: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": node}});
        saw(&autonomy, &pod("a", "n1", json!({})));
        assert!(autonomy.take().is_empty());
        saw(&autonomy, &pod("b", "n1", json!({"app-offline.kubeedge.io": "autonomy"})));
        assert_eq!(autonomy.take(), [Task::Pod("d".into(), "b".into())]);
        let node = |annotations: Value| {
            let meta = Meta { name: "n1".to_owned(), ..Meta::default() };
            autonomy
                .saw_node(&meta, &Json::of(&json!({"metadata": {"name": "n1", "annotations": annotations}})));
        };
        node(json!({"node.openyurt.io/autonomy-duration": "1h"}));
        node(json!({"node.openyurt.io/autonomy-duration": "1h"}));
        assert_eq!(autonomy.take(), [Task::Node("n1".into())]);
        saw(&autonomy, &pod("a", "n1", json!({})));
        saw(&autonomy, &pod("c", "n2", json!({})));
        assert_eq!(autonomy.take(), [Task::Pod("d".into(), "a".into())]);
        node(json!({}));
        assert_eq!(autonomy.take(), [Task::Node("n1".into())]);
    }
}
