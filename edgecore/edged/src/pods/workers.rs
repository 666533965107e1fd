//! The workers' tasks: begun, begun again when one fails, ended.

use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::record::Record;
use super::worker::{AFTER_ERROR, Inbox, Worker};
use super::{Handle, Pods, WorkerInit};
use nodebase::events::Kind;
use podmodel::backoff;
use podmodel::board::PodEntry;
use podmodel::demand::Demand;
use podmodel::errors::chain;
use podmodel::order::{Order, Wake};
use podmodel::spec::PodId;

/// A worker that went well for so long begins a new series of pauses.
const FORGIVEN: Duration = Duration::from_secs(600);

/// Which worker ended, and of which pod; or that it panicked.
pub(super) type Ended = Result<(Id, PodId), JoinError>;

/// The running tasks, and whose they are.
#[derive(Default)]
pub(super) struct Tasks {
    running: JoinSet<PodId>,
    pods: HashMap<Id, PodId>,
    /// By uid: how often in a row a worker failed, and when last.
    failures: HashMap<String, (u32, Instant)>,
}

impl Tasks {
    fn begin(&mut self, id: PodId, work: BoxFuture<'static, PodId>) {
        let task = self.running.spawn(work).id();
        self.pods.insert(task, id);
    }

    /// The next task that ends; none if there are no tasks.
    pub(super) async fn next(&mut self) -> Option<Ended> {
        self.running.join_next_with_id().await
    }

    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// Counts a failure and says how long the pod rests.
    fn failed(&mut self, uid: &str) -> Duration {
        let (count, last) = self.failures.entry(uid.to_owned()).or_insert((0, Instant::now()));
        *count = if last.elapsed() > FORGIVEN { 1 } else { count.saturating_add(1) };
        *last = Instant::now();
        backoff::delay(*count)
    }
}

impl Pods {
    /// `demand` is known of pods that somebody wants; those are put on the board.
    pub(super) fn spawn(&mut self, birth: WorkerInit, demand: Option<Arc<Demand>>) {
        let WorkerInit { id, key, references, order, decision, record } = birth;
        let is_static = demand.as_ref().is_some_and(|demand| demand.is_static);
        let wake = Arc::new(Wake::default());
        let (told, decision) = watch::channel(decision);
        if let (Some(demand), Order::Run(object)) = (demand, &order) {
            self.context.base.board.put(PodEntry {
                id: id.clone(),
                object: object.clone(),
                status: None,
                demand,
                decision: told,
                wake: wake.clone(),
                is_leaving: false,
            });
        }
        let (order, orders) = watch::channel(order);
        let inbox = Inbox { order: orders, decision, wake: wake.clone(), is_static };
        let worker = Worker::new(id.clone(), self.context.clone(), inbox, record);
        self.tasks.begin(id.clone(), Box::pin(worker.run(self.stop.clone())));
        self.workers.insert(id.uid, Handle { key, references, is_static, order, wake, again: None });
    }

    pub(super) fn ended(&mut self, ended: Ended) {
        match ended {
            Ok((task, id)) => {
                self.tasks.pods.remove(&task);
                self.tasks.failures.remove(&id.uid);
                self.context.base.board.remove(&id.uid);
                let again = self.workers.remove(&id.uid).and_then(|worker| worker.again);
                if let Some((key, object)) = again.filter(|_| !self.stop.is_cancelled()) {
                    self.put(key, object);
                }
                self.births();
            }
            Err(error) => {
                if let Some(id) = self.tasks.pods.remove(&error.id()) {
                    self.respawn(id, &error);
                }
            }
        }
    }

    /// A worker that panicked is begun again, with what is on disk of its pod; the containers went on meanwhile.
    fn respawn(&mut self, id: PodId, error: &JoinError) {
        let pause = self.tasks.failed(&id.uid);
        let Some(handle) = self.workers.get(&id.uid).filter(|_| !self.stop.is_cancelled()) else { return };
        tracing::error!(namespace = %id.namespace, name = %id.name, uid = %id.uid, error = %error,
            "the worker of a pod failed, it is begun again");
        let text = format!(
            "the node failed while it worked on the pod, and begins again in {}",
            backoff::written(pause)
        );
        self.context.base.events.record(&id, None, Kind::Warning, "FailedSync", &text);
        let decision = match self.context.base.board.get(&id.uid) {
            Some(entry) => entry.decision.subscribe(),
            None => watch::channel(None).1,
        };
        let (order, wake) = (handle.order.subscribe(), handle.wake.clone());
        let inbox = Inbox { order, decision, wake, is_static: handle.is_static };
        let (context, stop, pod) = (self.context.clone(), self.stop.clone(), id.clone());
        let rest = async move {
            let prepared = async {
                tokio::time::sleep(pause).await;
                // Without its record, a pod that failed here would start again.
                loop {
                    match Record::read(&context.base.objects, &pod.uid).await {
                        Ok(record) => return record,
                        Err(error) => {
                            tracing::warn!(uid = %pod.uid, error = %chain(&error), "record of a pod not read")
                        }
                    }
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            };
            let record = tokio::select! {
                biased;
                _ = stop.cancelled() => return pod,
                record = prepared => record,
            };
            Worker::new(pod, context, inbox, record).run(stop).await
        };
        self.tasks.begin(id, Box::pin(rest));
    }
}
