//! One pod's worker.
//!
//! ```text
//! syncing --deletionTimestamp | phase ended--> terminating --nothing runs--> terminated (waits for its removal)
//!    |  \--- decision: failed -----------------> stopped, told as failed <--- refused at admission
//!    |  \--- decision: held -------------------> stopped until the decision is lifted
//!    \---------------- removed from the store ---------------> gone: killed, cleaned up, the worker ends
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodSpec, PodStatus};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::context::Context;
use super::record::Record;
use podmodel::order::{Order, Wake};
use podmodel::spec::{self, PodId};
use podmodel::status::Failure;
use podmodel::status::phase::Phase;
use podmodel::status::whole_seconds;
use podmodel::stop_decision::StopDecision;
use probes::Probes;

/// When to look again without being woken.
pub(super) enum Next {
    In(Duration),
    /// Only when woken.
    Idle,
    /// There is nothing left of the pod.
    Done,
}

/// A start that failed is not tried again before this.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    pub failures: u32,
    pub not_before: Timestamp,
}

pub(super) struct Worker {
    pub(super) id: PodId,
    pub(super) context: Arc<Context>,
    order: watch::Receiver<Order>,
    decision: watch::Receiver<Option<StopDecision>>,
    pub(super) wake: Arc<Wake>,
    pub(super) record: Record,
    /// The record is on disk: the pod was admitted.
    pub(super) recorded: bool,
    /// The pod comes from a file of this node.
    pub(super) is_static: bool,
    /// The mirror its status was told to, and what the mirror said at that time.
    pub(super) told_mirror: Option<(String, Option<Summary>)>,
    /// The decision in force was told as an event.
    pub(super) sentenced: bool,
    pub(super) probes: Probes,
    /// Why containers do not run, by name; shown in the status.
    pub(super) failures: BTreeMap<String, Failure>,
    pub(super) retries: BTreeMap<String, Retry>,
    /// Volumes that could not be made.
    pub(super) mounting: Option<Retry>,
    /// The status computed last: base of the next one, and what was submitted.
    pub(super) status: Option<PodStatus>,
    pub(super) submitted: bool,
    /// A status that is submitted unless another comes first.
    pub(super) soon: Option<AbortOnDropHandle<()>>,
    /// Since when the runtime does not tell of the pod.
    pub(super) unread_since: Option<Timestamp>,
    /// The trouble that was logged last.
    complaint: Option<String>,
    /// Version of the pod object whose status was looked at last.
    noticed: Option<String>,
    /// The least attempt number of the next sandbox, when lower names are taken by leftovers.
    pub(super) sandbox_floor: u32,
    /// Until when the containers of an ending pod may take; it only gets nearer.
    pub(super) deadline: Option<Timestamp>,
    /// The grace of the last pod object seen, for a removal without warning.
    pub(super) grace: Duration,
    pub(super) cleaned: bool,
    pub(super) deletion_sent: bool,
}

/// How long an orphan may take to end.
const ORPHAN_GRACE: Duration = Duration::from_secs(1);
/// Next look after an error of the runtime or the disk.
pub(super) const AFTER_ERROR: Duration = Duration::from_secs(5);

/// What a worker is told by.
pub(super) struct Inbox {
    pub order: watch::Receiver<Order>,
    pub decision: watch::Receiver<Option<StopDecision>>,
    pub wake: Arc<Wake>,
    /// The pod comes from a file of this node.
    pub is_static: bool,
}

impl Worker {
    /// `record` is what was kept of the pod, if it was here before.
    pub(super) fn new(id: PodId, context: Arc<Context>, inbox: Inbox, record: Option<Record>) -> Worker {
        let recorded = record.is_some();
        let fresh =
            Record { uid: id.uid.clone(), start: context.base.clock.now(), decision: None, status: None };
        let record = record.unwrap_or(fresh);
        Worker {
            id,
            context,
            order: inbox.order,
            decision: inbox.decision,
            wake: inbox.wake,
            sentenced: record.decision.is_some(),
            recorded,
            is_static: inbox.is_static,
            told_mirror: None,
            status: record.status.clone(),
            record,
            probes: Probes::default(),
            failures: BTreeMap::new(),
            retries: BTreeMap::new(),
            mounting: None,
            submitted: false,
            soon: None,
            unread_since: None,
            complaint: None,
            noticed: None,
            sandbox_floor: 0,
            deadline: None,
            grace: ORPHAN_GRACE,
            cleaned: false,
            deletion_sent: false,
        }
    }

    /// Works until there is nothing left of the pod, or until `stop`, which leaves its containers alone.
    pub(super) async fn run(mut self, stop: CancellationToken) -> PodId {
        loop {
            let next = tokio::select! {
                biased;
                _ = stop.cancelled() => return self.id,
                next = self.step() => next,
            };
            let rest = match next {
                Next::Done => return self.id,
                Next::In(wait) => wait,
                Next::Idle => Duration::from_secs(24 * 3600),
            };
            tokio::select! {
                biased;
                _ = stop.cancelled() => return self.id,
                changed = self.order.changed() => if changed.is_err() { return self.id },
                Ok(()) = self.decision.changed() => {}
                _ = self.wake.wait() => {}
                _ = tokio::time::sleep(rest) => {}
            }
        }
    }

    async fn step(&mut self) -> Next {
        if self.wake.take_retry() {
            self.retries.clear();
            self.mounting = None;
        }
        let order = self.order.borrow_and_update().clone();
        let object = match order {
            Order::Gone => return self.remove().await,
            Order::Run(object) => object,
        };
        let Ok(pod) = object.parse::<Pod>() else { return Next::Idle };
        let Some(spec) = pod.spec.clone() else { return Next::Idle };
        drop(object);
        self.grace = spec::grace(&pod);
        self.notice_foreign_changes(&pod);
        if is_ending(&pod) {
            let mut order = self.order.clone();
            let grace = self.grace;
            return tokio::select! {
                biased;
                next = self.terminate(&pod, &spec) => next,
                _ = sooner(&mut order, grace) => Next::In(Duration::ZERO),
            };
        }
        if self.has_ended(&pod) {
            return self.finish(&pod, &spec).await;
        }
        let decision = self.decision.borrow_and_update().clone();
        if let Some(decision) = decision {
            let mut order = self.order.clone();
            return tokio::select! {
                biased;
                next = self.enforce_stop(&pod, &spec, &decision) => next,
                _ = ending(&mut order) => Next::In(Duration::ZERO),
            };
        }
        self.sentenced = false;
        let (mut order, mut decision) = (self.order.clone(), self.decision.clone());
        tokio::select! {
            biased;
            next = self.sync(&pod, &spec) => next,
            _ = ending(&mut order) => Next::In(Duration::ZERO),
            Ok(()) = decision.changed() => Next::In(Duration::ZERO),
        }
    }

    /// True if this is not the trouble that was logged last: what is tried again and again is told once.
    pub(super) fn is_news(&mut self, trouble: &str) -> bool {
        let is_news = self.complaint.as_deref() != Some(trouble);
        self.complaint = Some(trouble.to_owned());
        is_news
    }

    /// The decision in force.
    pub(super) fn decision(&self) -> Option<StopDecision> {
        self.decision.borrow().clone()
    }

    /// The pod has to end for a reason of its own.
    pub(super) fn decide(&self, decision: StopDecision) {
        if let Some(entry) = self.context.base.board.get(&self.id.uid) {
            entry.decision.send_replace(Some(decision));
        }
    }

    /// The last status: computed here, or stored before this start.
    pub(super) fn previous(&self, pod: &Pod) -> PodStatus {
        let start = whole_seconds(self.record.start);
        let Some(mut status) = self.status.clone() else {
            let stored = pod.status.clone().unwrap_or_default();
            return PodStatus { start_time: stored.start_time.or(Some(start)), ..stored };
        };
        let told = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let foreign = told.into_iter().flatten().filter(|condition| !is_ours(condition)).cloned();
        let conditions = status.conditions.get_or_insert_default();
        conditions.retain(is_ours);
        conditions.extend(foreign);
        status
    }

    fn has_ended(&self, pod: &Pod) -> bool {
        let ended = |status: Option<&PodStatus>| {
            status.is_some_and(|status| Phase::read(status.phase.as_deref()).is_terminal())
        };
        ended(self.status.as_ref()) || ended(pod.status.as_ref())
    }

    /// The cloud may have changed what this node said (a node that was silent has its pods marked not ready): then it
    /// is said again, once for every object that came.
    fn notice_foreign_changes(&mut self, pod: &Pod) {
        let version = pod.metadata.resource_version.clone().unwrap_or_default();
        if self.noticed.as_ref() == Some(&version) {
            return;
        }
        self.noticed = Some(version);
        let (Some(ours), Some(theirs)) = (&self.status, &pod.status) else { return };
        if summary(ours) != summary(theirs) {
            self.submitted = false;
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.context.base.clock.now()
    }

    /// The time from now until `at`, at least a moment.
    pub(super) fn until(&self, at: Timestamp) -> Duration {
        let left = at.duration_since(self.now());
        Duration::try_from(left).unwrap_or_default().max(Duration::from_millis(10))
    }
}

/// What others may change of a status: its phase and whether the pod is ready.
pub(super) type Summary = (Option<String>, Option<String>);

pub(super) fn summary(status: &PodStatus) -> Summary {
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    (status.phase.clone(), ready.map(|condition| condition.status.clone()))
}

/// True if the node sets this condition.
fn is_ours(condition: &PodCondition) -> bool {
    native::NODES_CONDITIONS.contains(&condition.type_.as_str())
}

pub(super) fn is_ending(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Resolves when the pod is to end.
async fn ending(order: &mut watch::Receiver<Order>) {
    loop {
        if order.changed().await.is_err() {
            return std::future::pending().await;
        }
        let now = order.borrow_and_update().clone();
        match now {
            Order::Gone => return,
            Order::Run(object) if object.parse::<Pod>().is_ok_and(|pod| is_ending(&pod)) => return,
            Order::Run(_) => {}
        }
    }
}

/// Resolves when the pod is to end sooner than in `grace`.
async fn sooner(order: &mut watch::Receiver<Order>, grace: Duration) {
    loop {
        if order.changed().await.is_err() {
            return std::future::pending().await;
        }
        let now = order.borrow_and_update().clone();
        match now {
            Order::Gone => {}
            Order::Run(object) if object.parse::<Pod>().is_ok_and(|pod| spec::grace(&pod) < grace) => return,
            Order::Run(_) => {}
        }
    }
}

/// The addresses of a pod's sandbox, or the node's for pods in its network.
pub(super) fn ips(
    context: &Context,
    spec: &PodSpec,
    sandbox: Option<&podmodel::observed::Sandbox>,
) -> Vec<String> {
    match spec.host_network {
        Some(true) => context.addresses.all(),
        _ => sandbox.map(|sandbox| sandbox.ips.clone()).unwrap_or_default(),
    }
}
