//! The pods of this node: one worker per uid, fed by the store and woken by the runtime.
//!
//! ```text
//! stored pods, changes --> [Pods] --order (latest wins)--> worker(uid): syncing -> terminating -> gone
//! pleg: what changed   --> [Pods] --wake--------------->   worker(uid)
//! a pod of the runtime that the store does not have --> worker(uid) with the order Gone
//! ```
//!
//! Owns the workers. Promises: nothing is killed before the store was read; a running container is never restarted
//! because EdgeCore was; stopping leaves all containers as they are; a worker that panics is begun again.

mod admitter;
mod alone;
pub mod cgroups;
pub mod configs;
pub mod context;
mod device_claims;
mod dns;
pub mod env;
mod folders;
mod hooks;
mod housekeeping;
mod image_volumes;
mod names;
pub mod network;
mod record;
mod report;
pub mod resolv;
mod round;
mod runtime_class;
pub mod security;
pub mod service_env;
mod starting;
mod stopping;
mod syncing;
mod unread;
mod unreadable;
mod unsure;
mod worker;
mod workers;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryFutureExt;
use k8s_openapi::api::core::v1::Pod;
use message::{Json, ObjectKey, ObjectKind};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::pleg::{Relisted, RuntimePod};
use super::static_pods::Snapshot;
use podmodel::board::PodEntry;
use podmodel::demand::Demand;
use podmodel::order::{Order, Wake};
use podmodel::spec::PodId;
use podmodel::stop_decision::StopDecision;

use admitter::{Admission, Admitter};
use alone::Alone;
use context::Context;
use metamanager::{Change, LinkState, ObjectChange};
use record::Record;
use unsure::{Answer, Unsure};
use workers::{Ended, Tasks};

/// Where changes come from.
pub struct Inputs {
    pub changes: mpsc::Receiver<ObjectChange>,
    pub relisted: mpsc::Receiver<Relisted>,
    /// All pods from files, whenever they changed; the first one before anything is killed.
    pub files: mpsc::Receiver<Snapshot>,
    pub link: watch::Receiver<LinkState>,
    /// The cloud has told every pod since the process started.
    pub in_step: watch::Receiver<bool>,
}

/// What the loop over the pods turns for.
enum Input {
    /// A committed change of an object.
    Change(ObjectChange),
    /// What changed in the runtime.
    Relisted(Relisted),
    /// The pods from files.
    Files(Snapshot),
    /// A worker ended.
    Ended(Ended),
    Link(LinkState),
    /// The cloud has told every pod.
    InStep,
    /// What is known of the runtime changed.
    Runtime,
    /// The cloud's word on a pod that was held back.
    Answer(Answer),
    Housekeeping,
}

pub struct Pods {
    context: Arc<Context>,
    /// By uid.
    workers: HashMap<String, Handle>,
    tasks: Tasks,
    admitter: Admitter,
    unsure: Unsure,
    alone: Alone,
    /// What was kept of pods that have no worker yet.
    records: HashMap<String, Record>,
    /// Pods from files that wait for the end of an earlier one of the same name.
    waiting: Vec<Pod>,
    /// True once the pods from files are known.
    files_read: watch::Sender<bool>,
    stop: CancellationToken,
}

struct Handle {
    /// The pod's key in the store; none for pods the store never had.
    key: Option<ObjectKey>,
    references: BTreeSet<ObjectKey>,
    is_static: bool,
    order: watch::Sender<Order>,
    wake: Arc<Wake>,
    /// The pod was given again while its worker was removing it: what to start when that is done.
    again: Option<(ObjectKey, Json)>,
}

/// What a new worker begins with.
struct WorkerInit {
    id: PodId,
    key: Option<ObjectKey>,
    references: BTreeSet<ObjectKey>,
    order: Order,
    decision: Option<StopDecision>,
    record: Option<Record>,
}

/// How often leftovers of gone pods are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// How long workers may finish the call they are in when EdgeCore stops.
const DRAIN: Duration = Duration::from_secs(5);

impl Pods {
    pub fn new(context: Arc<Context>, stop: CancellationToken) -> Pods {
        let admitter = Admitter::new(context.clone());
        Pods {
            context,
            workers: HashMap::new(),
            tasks: Tasks::default(),
            admitter,
            unsure: Unsure::default(),
            alone: Alone::default(),
            records: HashMap::new(),
            waiting: Vec::new(),
            files_read: watch::channel(false).0,
            stop,
        }
    }

    /// Starts workers for the stored pods. Must come before the first relist is looked at.
    pub async fn load(&mut self) -> Result<(), store::StoreError> {
        self.records = Record::all(&self.context.base.objects).await?;
        self.admitter.load().await?;
        self.alone.unreadable(self.context.base.objects.unreadable(&ObjectKind::Pod).await?);
        for stored in self.context.base.objects.list(&ObjectKind::Pod).await? {
            self.put(stored.key, stored.object);
        }
        Ok(())
    }

    /// Resolves when the pods from files are known.
    pub fn from_files(&self) -> impl Future<Output = ()> + use<> {
        let mut read = self.files_read.subscribe();
        async move {
            if read.wait_for(|read| *read).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub async fn run(mut self, mut inputs: Inputs) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        let (stop, mut runtime) = (self.stop.clone(), self.context.base.facts.clone());
        tokio::select! {
            biased;
            _ = stop.cancelled() => {}
            snapshot = inputs.files.recv() => self.files(snapshot.unwrap_or_default()),
        }
        let beat = self.context.beat.clone();
        loop {
            let input = tokio::select! {
                biased;
                _ = stop.cancelled() => break,
                change = inputs.changes.recv() => match change {
                    Some(change) => Input::Change(change),
                    None => break,
                },
                Some(relisted) = inputs.relisted.recv() => Input::Relisted(relisted),
                Some(snapshot) = inputs.files.recv() => Input::Files(snapshot),
                Some(ended) = self.tasks.next() => Input::Ended(ended),
                Ok(()) = inputs.link.changed() => Input::Link(*inputs.link.borrow_and_update()),
                Ok(()) = inputs.in_step.wait_for(|told| *told).map_ok(drop), if !self.alone.is_over() => Input::InStep,
                Ok(()) = runtime.changed() => Input::Runtime,
                Some(answer) = self.unsure.answered() => Input::Answer(answer),
                _ = housekeeping.tick() => Input::Housekeeping,
            };
            let _busy = beat.begin();
            self.handle(input).await;
        }
        let drained = async { while self.tasks.next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!(pods = self.tasks.len(), "pod workers aborted in the middle of a step");
        }
    }

    async fn handle(&mut self, input: Input) {
        match input {
            Input::Change(change) => self.change(change),
            Input::Relisted(relisted) => self.relisted(relisted).await,
            Input::Files(snapshot) => self.files(snapshot),
            Input::Ended(ended) => self.ended(ended),
            Input::Link(LinkState::Connected) => {
                self.workers.values().for_each(|worker| worker.wake.retry_now());
                self.ask_again();
            }
            Input::Link(LinkState::Disconnected) => {}
            Input::InStep => self.nobody_is_missing(),
            Input::Runtime => self.workers.values().for_each(|worker| worker.wake.now()),
            Input::Answer(answer) => self.node_told(answer),
            Input::Housekeeping => self.keep_house().await,
        }
    }

    fn change(&mut self, change: ObjectChange) {
        match (&change.key.kind, change.change) {
            (ObjectKind::Pod, Change::Put { object, .. }) => self.put(change.key, object),
            (ObjectKind::Pod, Change::Remove { uid }) => self.remove(&change.key, uid.as_deref()),
            (ObjectKind::Node, Change::Put { object, .. }) => self.node_changed(&object),
            _ => {
                let readers = self.workers.values().filter(|worker| worker.references.contains(&change.key));
                readers.for_each(|worker| worker.wake.retry_now());
            }
        }
    }

    fn put(&mut self, key: ObjectKey, object: Json) {
        self.place(key, object, false);
    }

    /// `is_sure`: the node object is as the cloud has it.
    fn place(&mut self, key: ObjectKey, object: Json, is_sure: bool) {
        let pod = match object.parse::<Pod>() {
            Ok(pod) => pod,
            Err(error) => return self.place_unreadable(key, &object, &podmodel::errors::chain(&error)),
        };
        self.place_as(key, object, pod, None, is_sure);
    }

    /// `decision`: it may not run, whatever the node has room for.
    fn place_as(
        &mut self,
        key: ObjectKey,
        object: Json,
        pod: Pod,
        decision: Option<StopDecision>,
        is_sure: bool,
    ) {
        let id = PodId::of(&pod);
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        if node.is_some_and(|node| node != self.context.base.settings.node.as_str()) || !names::is_safe(&id) {
            tracing::warn!(name = %key, uid = %id.uid, "pod of another node, or without a usable name and uid, ignored");
            return;
        }
        if podmodel::demand::mirrored(&pod).is_some() {
            self.context.mirrors.seen(&pod);
            let named = self.context.base.board.named(&id.namespace, &id.name);
            named.filter(|entry| entry.demand.is_static).into_iter().for_each(|entry| entry.wake.now());
            return;
        }
        let successors =
            self.workers.iter().filter(|(uid, worker)| **uid != id.uid && worker.key.as_ref() == Some(&key));
        successors.for_each(|(_, worker)| worker.order.send_modify(Order::be_gone));
        let references = podmodel::spec::references(&pod);
        match self.workers.get_mut(&id.uid) {
            Some(worker) if worker.order.borrow().is_gone() => worker.again = Some((key, object)),
            Some(worker) => {
                worker.references = references;
                self.context.base.board.replace(&id.uid, object.clone(), Demand::of(&pod));
                worker.order.send_modify(|order| order.replace(object));
            }
            None => {
                let record = self.records.remove(&id.uid);
                let demand = Arc::new(Demand::of(&pod));
                let decision = match &record {
                    _ if decision.is_some() => decision,
                    Some(record) => record.decision.clone(),
                    None => match self.admitter.admit(&pod, &demand) {
                        Admission::Granted => None,
                        Admission::Unsure(_) if !is_sure => return self.hold_back(id.uid, key, object),
                        Admission::Refused(decision) | Admission::Unsure(decision) => Some(decision),
                    },
                };
                self.unsure.forget(&key, None);
                let birth = WorkerInit {
                    id,
                    key: Some(key),
                    references,
                    order: Order::Run(object),
                    decision,
                    record,
                };
                self.spawn(birth, Some(demand));
            }
        }
    }

    /// The pods from files are these.
    fn files(&mut self, pods: Snapshot) {
        let wanted: BTreeSet<&str> = pods.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        for (uid, worker) in &self.workers {
            if worker.is_static && !wanted.contains(uid.as_str()) {
                worker.order.send_modify(Order::be_gone);
                self.context.base.board.leaving(uid);
            }
        }
        self.waiting = pods;
        self.births();
        self.files_read.send_replace(true);
        self.context.mirrors.poke();
    }

    /// Starts workers for pods from files whose name is free.
    fn births(&mut self) {
        for pod in std::mem::take(&mut self.waiting) {
            let id = PodId::of(&pod);
            let runs = self.workers.get(&id.uid).is_some_and(|worker| !worker.order.borrow().is_gone());
            if runs {
                continue;
            }
            let entries = self.context.base.board.entries();
            let taken = |entry: &PodEntry| {
                entry.demand.is_static && entry.id.namespace == id.namespace && entry.id.name == id.name
            };
            match (entries.iter().any(taken), Json::encode(&pod)) {
                (false, Ok(object)) => {
                    let demand = Arc::new(Demand::of_static(&pod));
                    let record = self.records.remove(&id.uid);
                    let decision = match &record {
                        Some(record) => record.decision.clone(),
                        None => match self.admitter.admit(&pod, &demand) {
                            Admission::Granted => None,
                            Admission::Refused(decision) | Admission::Unsure(decision) => Some(decision),
                        },
                    };
                    let (key, references) = (None, BTreeSet::new());
                    let birth =
                        WorkerInit { id, key, references, order: Order::Run(object), decision, record };
                    self.spawn(birth, Some(demand));
                    self.context.mirrors.poke();
                }
                _ => self.waiting.push(pod),
            }
        }
    }

    fn remove(&mut self, key: &ObjectKey, uid: Option<&str>) {
        let gone = self.workers.iter().filter(|(known, worker)| {
            worker.key.as_ref() == Some(key) && uid.is_none_or(|uid| uid == known.as_str())
        });
        gone.for_each(|(_, worker)| worker.order.send_modify(Order::be_gone));
        self.unsure.forget(key, uid);
        for id in self.alone.named(key, uid) {
            self.stop_unknown(id);
        }
        let waiting = self
            .workers
            .values_mut()
            .filter(|worker| worker.again.as_ref().is_some_and(|(waiting, _)| waiting == key));
        waiting.for_each(|worker| worker.again = None);
        if let Some(namespace) = &key.namespace {
            self.context.mirrors.gone(namespace, &key.name, uid);
        }
    }

    async fn relisted(&mut self, relisted: Relisted) {
        for RuntimePod { id, is_ours } in relisted.changed {
            if let Some(worker) = self.workers.get(&id.uid) {
                worker.wake.now();
                continue;
            }
            if !podmodel::spec::is_safe_uid(&id.uid) || self.unsure.contains(&id.uid) {
                continue;
            }
            if !is_ours && !self.has_traces(&id.uid).await {
                tracing::debug!(namespace = %id.namespace, name = %id.name, uid = %id.uid, "pod of another node agent left alone");
                continue;
            }
            if self.may_be_missing(&id.uid) {
                self.alone.leave(id);
                continue;
            }
            self.stop_unknown(id);
        }
    }

    fn stop_unknown(&mut self, id: PodId) {
        tracing::info!(namespace = %id.namespace, name = %id.name, uid = %id.uid, "unknown pod found, stopping it");
        let (key, references, decision) = (None, BTreeSet::new(), None);
        let record = self.records.remove(&id.uid);
        self.spawn(WorkerInit { id, key, references, order: Order::Gone, decision, record }, None);
    }

    /// Whether this installation knew a pod that carries no mark, as those of older versions and of KubeEdge.
    async fn has_traces(&self, uid: &str) -> bool {
        let folder = volumes::pod_dir(&self.context.base.settings.root_dir, uid);
        self.records.contains_key(uid) || tokio::fs::try_exists(folder).await.unwrap_or(false)
    }

    async fn keep_house(&mut self) {
        let found = housekeeping::look(&self.context).await;
        let waiting = self.waiting.iter().filter_map(|pod| pod.metadata.uid.clone());
        let mut known: BTreeSet<String> = self.workers.keys().cloned().chain(waiting).collect();
        if self.alone.is_over() {
            self.records.retain(|uid, _| known.contains(uid));
        }
        let missing: Vec<String> =
            found.uids().filter(|uid| self.may_be_missing(uid)).map(str::to_owned).collect();
        known.extend(missing);
        let context = self.context.clone();
        daemon::spawn(async move {
            let demands: Vec<_> =
                context.base.board.entries().into_iter().map(|entry| entry.demand).collect();
            if let Err(error) = cgroups::classes(&context, &demands).await {
                tracing::debug!(error = %podmodel::errors::chain(&error), "cgroups of the classes not set");
            }
            housekeeping::remove_leftovers(context, found, known).await;
        });
    }
}
