//! Why a pod has to stop although the API did not ask for it: refused, evicted, out of time, preempted.

use std::time::Duration;

use k8s_openapi::api::core::v1::PodCondition;
use serde::{Deserialize, Serialize};

/// What becomes of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disposition {
    /// It has failed, for good.
    #[serde(rename = "Failed")]
    Fail,
    /// It is stopped, and starts again when the decision is lifted: while nobody can replace it, a pod that failed
    /// would be missed until the cloud is back.
    #[serde(rename = "Held")]
    Hold,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopDecision {
    #[serde(rename = "sentence")]
    pub disposition: Disposition,
    /// `Evicted`, `DeadlineExceeded`, `OutOfcpu`, ...
    pub reason: String,
    pub message: String,
    /// How long its containers may take to end; the pod's own grace when absent.
    pub grace: Option<Duration>,
    /// The node took it from a pod that did nothing wrong: the condition `DisruptionTarget` says so.
    pub disrupted: bool,
}

impl StopDecision {
    pub fn failed(reason: &str, message: impl Into<String>) -> StopDecision {
        let (reason, message) = (reason.to_owned(), message.into());
        StopDecision { disposition: Disposition::Fail, reason, message, grace: None, disrupted: false }
    }

    /// The node refuses to start the pod (docs/protocol/edge-runtime.md 5.24).
    pub fn rejected(reason: &str, message: &str) -> StopDecision {
        StopDecision::failed(reason, format!("Pod was rejected: {message}"))
    }

    /// The condition that tells controllers that the pod was disturbed, without its times.
    pub fn condition(&self) -> Option<PodCondition> {
        (self.disrupted && self.disposition == Disposition::Fail).then(|| PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
            reason: Some("TerminationByKubelet".to_owned()),
            message: Some(self.message.clone()),
            ..PodCondition::default()
        })
    }
}
