//! The pod's devices, before anything of it starts.

use std::time::Duration;

use k8s_openapi::api::core::v1::PodSpec;

use super::worker::{AFTER_ERROR, Next, Worker};
use deviceplugins::{self, ClaimError};
use nodebase::events::Kind;
use podmodel::errors::chain;
use podmodel::observed::Observed;
use podmodel::status::phase::Phase;
use podmodel::stop_decision::StopDecision;

/// A plugin that registers again does so soon.
const AWAY: Duration = Duration::from_secs(2);

impl Worker {
    /// What to do instead of starting the pod, if its devices cannot be had. A pod that runs already keeps what it
    /// has.
    pub(super) async fn claim_devices(&self, spec: &PodSpec, observed: &Observed) -> Option<Next> {
        let needs = deviceplugins::needs(spec);
        if needs.is_empty() || observed.is_running() {
            return None;
        }
        let board = self.context.base.board.clone();
        let lives = move |uid: &str| {
            let phase = |phase: Option<&str>| Phase::read(phase).is_terminal();
            board.get(uid).is_some_and(|entry| {
                !entry.status.as_ref().is_some_and(|status| phase(status.phase.as_deref()))
            })
        };
        let error = self.context.devices.claim(&self.id.uid, &needs, lives).await.err()?;
        let text = chain(&error);
        match error {
            ClaimError::Away { .. } => {
                self.context.base.events.record(&self.id, None, Kind::Warning, "FailedDevices", &text);
                Some(Next::In(AWAY))
            }
            ClaimError::Keep(_) => {
                tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, error = %text, "devices not claimed");
                Some(Next::In(AFTER_ERROR))
            }
            _ => {
                self.decide(StopDecision::rejected("UnexpectedAdmissionError", &text));
                Some(Next::In(Duration::ZERO))
            }
        }
    }
}
