//! The pods of this node: one worker per uid, fed by the store and woken by the runtime.
//!
//! ```text
//! stored pods, changes --> [Pods] --order (latest wins)--> worker(uid): syncing -> terminating -> gone
//! pleg: what changed   --> [Pods] --wake--------------->   worker(uid)
//! a pod of the runtime that the store does not have --> worker(uid) with the order Gone
//! ```
//!
//! Owns the workers. Promises: nothing is killed before the store was read; a running container is never restarted
//! because EdgeCore was; stopping leaves all containers as they are.

pub mod backoff;
pub mod cgroups;
pub mod configs;
pub mod env;
pub mod expand;
pub mod fields;
mod hooks;
mod housekeeping;
pub mod network;
pub mod observed;
mod order;
pub mod plan;
mod report;
pub mod resources;
pub mod security;
pub mod spec;
mod starting;
mod stopping;
mod syncing;
mod termination;
mod worker;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use message::{Json, ObjectKey, ObjectKind};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::pleg::Relisted;
use crate::metamanager::{Change, LinkState, ObjectChange};
use order::{Order, Wake};
use spec::PodId;
use worker::Worker;

/// Where changes come from.
pub struct Inputs {
    pub changes: mpsc::Receiver<ObjectChange>,
    pub relisted: mpsc::Receiver<Relisted>,
    pub link: watch::Receiver<LinkState>,
}

pub struct Pods {
    context: Arc<Context>,
    /// By uid.
    workers: HashMap<String, Handle>,
    running: JoinSet<PodId>,
    stop: CancellationToken,
}

struct Handle {
    /// The pod's key in the store; none for pods the store never had.
    key: Option<ObjectKey>,
    references: BTreeSet<ObjectKey>,
    order: watch::Sender<Order>,
    wake: Arc<Wake>,
    /// The pod was given again while its worker was removing it: what to start when that is done.
    again: Option<(ObjectKey, Json)>,
}

/// How often leftovers of gone pods are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// How long workers may finish the call they are in when EdgeCore stops.
const DRAIN: Duration = Duration::from_secs(5);

impl Pods {
    pub fn new(context: Arc<Context>, stop: CancellationToken) -> Pods {
        Pods { context, workers: HashMap::new(), running: JoinSet::new(), stop }
    }

    /// Starts workers for the stored pods. Must come before the first relist is looked at.
    pub async fn load(&mut self) -> Result<(), store::StoreError> {
        for stored in self.context.objects.list(&ObjectKind::Pod).await? {
            self.put(stored.key, stored.object);
        }
        Ok(())
    }

    pub async fn run(mut self, mut inputs: Inputs) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        let stop = self.stop.clone();
        loop {
            tokio::select! {
                biased;
                _ = stop.cancelled() => break,
                change = inputs.changes.recv() => match change {
                    Some(change) => self.change(change),
                    None => break,
                },
                Some(relisted) = inputs.relisted.recv() => self.relisted(relisted),
                Some(ended) = self.running.join_next() => self.ended(ended),
                Ok(()) = inputs.link.changed() => {
                    if *inputs.link.borrow_and_update() == LinkState::Connected {
                        self.workers.values().for_each(|worker| worker.wake.retry_now());
                    }
                }
                _ = housekeeping.tick() => self.keep_house(),
            }
        }
        let drained = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!(pods = self.running.len(), "pod workers aborted in the middle of a step");
        }
    }

    fn change(&mut self, change: ObjectChange) {
        match (&change.key.kind, change.change) {
            (ObjectKind::Pod, Change::Put { object, .. }) => self.put(change.key, object),
            (ObjectKind::Pod, Change::Remove { uid }) => self.remove(&change.key, uid.as_deref()),
            _ => {
                let readers = self.workers.values().filter(|worker| worker.references.contains(&change.key));
                readers.for_each(|worker| worker.wake.retry_now());
            }
        }
    }

    fn put(&mut self, key: ObjectKey, object: Json) {
        let pod = match object.parse::<Pod>() {
            Ok(pod) => pod,
            Err(error) => {
                tracing::warn!(name = %key, error = %super::context::chain(&error), "unreadable pod ignored");
                return;
            }
        };
        let id = PodId::of(&pod);
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        if node.is_some_and(|node| node != self.context.settings.node.as_str()) || !spec::is_safe_uid(&id.uid)
        {
            tracing::warn!(name = %key, uid = %id.uid, "pod of another node, or without a usable uid, ignored");
            return;
        }
        let successors =
            self.workers.iter().filter(|(uid, worker)| **uid != id.uid && worker.key.as_ref() == Some(&key));
        successors.for_each(|(_, worker)| worker.order.send_modify(Order::be_gone));
        let references = spec::references(&pod);
        match self.workers.get_mut(&id.uid) {
            Some(worker) if worker.order.borrow().is_gone() => worker.again = Some((key, object)),
            Some(worker) => {
                worker.references = references;
                worker.order.send_modify(|order| order.replace(object));
            }
            None => self.spawn(id, Some(key), references, Order::Run(object)),
        }
    }

    fn remove(&mut self, key: &ObjectKey, uid: Option<&str>) {
        let gone = self.workers.iter().filter(|(known, worker)| {
            worker.key.as_ref() == Some(key) && uid.is_none_or(|uid| uid == known.as_str())
        });
        gone.for_each(|(_, worker)| worker.order.send_modify(Order::be_gone));
        let waiting = self
            .workers
            .values_mut()
            .filter(|worker| worker.again.as_ref().is_some_and(|(waiting, _)| waiting == key));
        waiting.for_each(|worker| worker.again = None);
    }

    fn relisted(&mut self, relisted: Relisted) {
        for id in relisted.changed {
            match self.workers.get(&id.uid) {
                Some(worker) => worker.wake.now(),
                None if spec::is_safe_uid(&id.uid) => {
                    tracing::info!(namespace = %id.namespace, name = %id.name, uid = %id.uid, "unknown pod found, stopping it");
                    self.spawn(id, None, BTreeSet::new(), Order::Gone);
                }
                None => {}
            }
        }
    }

    fn spawn(&mut self, id: PodId, key: Option<ObjectKey>, references: BTreeSet<ObjectKey>, order: Order) {
        let (order, orders) = watch::channel(order);
        let wake = Arc::new(Wake::default());
        let worker = Worker::new(id.clone(), self.context.clone(), orders, wake.clone());
        self.running.spawn(worker.run(self.stop.clone()));
        self.workers.insert(id.uid, Handle { key, references, order, wake, again: None });
    }

    fn ended(&mut self, ended: Result<PodId, tokio::task::JoinError>) {
        match ended {
            Ok(id) => {
                let again = self.workers.remove(&id.uid).and_then(|worker| worker.again);
                if let Some((key, object)) = again.filter(|_| !self.stop.is_cancelled()) {
                    self.put(key, object);
                }
            }
            Err(error) => tracing::error!(error = %error, "a pod worker ended abnormally"),
        }
    }

    fn keep_house(&self) {
        let known: BTreeSet<String> = self.workers.keys().cloned().collect();
        tokio::spawn(housekeeping::remove_leftovers(self.context.clone(), known));
    }
}
