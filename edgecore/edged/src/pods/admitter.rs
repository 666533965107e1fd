//! The door of the node: what it knows of itself when a pod asks to come in.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use message::{Json, ObjectKey, ObjectKind};

use super::context::Context;
use nodestatus::object;
use nodestatus::seen::NodeView;
use podmodel::admission::{self, AdmissionRefusal, make_room};
use podmodel::board::PodEntry;
use podmodel::demand::Demand;
use podmodel::status::phase::Phase;
use podmodel::stop_decision::{Disposition, StopDecision};

/// Taints of a node that was not heard of. Who hands it a pod has heard of it: they would refuse the first pods after
/// every outage, for good.
const SILENT: [&str; 2] = ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"];

/// What is said of a pod that asks to come in.
pub(super) enum Admission {
    Granted,
    Refused(StopDecision),
    /// Labels or taints of the node speak against it. The watch that brought the pod may be ahead of the node's: only
    /// the cloud knows whether they still hold.
    Unsure(StopDecision),
}

/// Refusals that follow from the node object.
const BY_NODE_OBJECT: [&str; 2] = ["NodeAffinity", "TaintToleration"];

/// Admits pods one by one, so that two never count on the same room.
pub(super) struct Admitter {
    context: Arc<Context>,
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
}

impl Admitter {
    /// Until the node object is known, the node is what it registers as.
    pub(super) fn new(context: Arc<Context>) -> Admitter {
        let labels = object::labels(&context.base.settings);
        let taints = context.base.settings.taints.clone();
        Admitter { context, labels, taints }
    }

    pub(super) async fn load(&mut self) -> Result<(), store::StoreError> {
        let key = ObjectKey::new(None, ObjectKind::Node, self.context.base.settings.node.as_str());
        if let Some(stored) = self.context.base.objects.get(&key).await? {
            self.node_changed(&stored.object);
        }
        Ok(())
    }

    /// The node object as the cloud has it.
    pub(super) fn node_changed(&mut self, node: &Json) {
        let Ok(node) = node.parse::<Node>() else { return };
        if node.metadata.name.as_deref() != Some(self.context.base.settings.node.as_str()) {
            return;
        }
        self.context.node_seen.send_replace(NodeView::of(&node));
        if let Some(labels) = node.metadata.labels {
            self.labels = labels;
        }
        let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        self.taints = taints.into_iter().filter(|taint| !SILENT.contains(&taint.key.as_str())).collect();
    }

    /// Why the pod may not run here. A pod that runs already, or is at its end, is not asked.
    pub(super) fn admit(&self, pod: &Pod, demand: &Demand) -> Admission {
        match self.judge(pod, demand) {
            Ok(()) => Admission::Granted,
            // A pod from a file is nobody's who would have asked the cloud.
            Err(decision) if !demand.is_static && BY_NODE_OBJECT.contains(&decision.reason.as_str()) => {
                Admission::Unsure(decision)
            }
            Err(decision) => Admission::Refused(decision),
        }
    }

    fn judge(&self, pod: &Pod, demand: &Demand) -> Result<(), StopDecision> {
        let told = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if pod.metadata.deletion_timestamp.is_some() || Phase::read(told) != Phase::Pending {
            return Ok(());
        }
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let others: Vec<PodEntry> = self
            .context
            .base
            .board
            .entries()
            .into_iter()
            .filter(|entry| entry.is_active() && entry.id.uid != uid)
            .collect();
        let demands: Vec<Arc<Demand>> = others.iter().map(|entry| entry.demand.clone()).collect();
        match self.check(pod, demand, &demands) {
            Err(AdmissionRefusal::Short { missing, decision }) if demand.is_critical() => {
                let chosen = make_room(&missing, demand.priority, &demands).ok_or(decision)?;
                chosen.into_iter().for_each(|index| preempt(&others[index]));
                Ok(())
            }
            other => other.map_err(AdmissionRefusal::decision),
        }
    }

    fn check(&self, pod: &Pod, demand: &Demand, others: &[Arc<Demand>]) -> Result<(), AdmissionRefusal> {
        let context = &self.context;
        let facts = context.base.facts.borrow();
        let node = admission::Node {
            name: context.base.settings.node.as_str(),
            labels: &self.labels,
            taints: &self.taints,
            allocatable: &context.capacity.allocatable(&context.base.machine, &context.base.settings),
            pressure: *context.base.pressure.borrow(),
            is_shutting_down: context.base.is_shutting_down(),
            allowed_sysctls: &context.base.settings.allowed_sysctls,
            has_apparmor: context.base.machine.has_apparmor,
            has_strict_groups: facts.has_strict_groups,
        };
        admission::check(pod, demand, &node, others)
    }
}

fn preempt(entry: &PodEntry) {
    let decision = StopDecision {
        disposition: Disposition::Fail,
        reason: "Preempting".to_owned(),
        message: "Preempted in order to admit critical pod".to_owned(),
        grace: None,
        disrupted: true,
    };
    entry.decision.send_replace(Some(decision));
}
